"""WebAnno's and INCEpTION's TSV 3: `1-1⇥0-4⇥Anna⇥PER[1]`.

Equal numbers make one entity; `_` stands for none.
"""

import re
from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.formats.token_lines import sentences
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError

_VALUE = re.compile(r"(.*?)(?:\[(\d+)\])?$")
_FIXED = 3
"""Columns before those of the layers: number, characters, token."""


def _is_file(sample: Sample) -> bool:
    return bool(sample.lines) and sample.lines[0].lstrip("\ufeff").startswith("#FORMAT=WebAnno TSV")


def _open(sample: Sample) -> Rows:
    features = _features(sample)
    at = int(getattr(sample.options, "tag_at", -1))
    chosen = _FIXED + features.index("value") if at == -1 and "value" in features else at if at != -1 else _FIXED
    if not features:
        raise InputError(f"{sample.path}: WebAnno TSV without a layer of spans (#T_SP=…|value)")
    return single(FORMAT, sample, lambda: _rows(sample, chosen))


def _features(sample: Sample) -> list[str]:
    """The features of all layers of spans, in the order of their columns."""
    return [
        feature
        for line in sample.lines
        if line.startswith(("#T_SP=", "#T_CH=", "#T_RL="))
        for feature in line.partition("=")[2].split("|")[1:]
    ]


def _rows(sample: Sample, at: int) -> Iterator[Row]:
    for line, _, rows in sentences(sample):
        words = [row for row in rows if "." not in row[0]]  # parts of a token have a number such as 1-1.1
        if words and len(words[0]) > 2:
            tags, before = list[str](), ("", "")
            for row in words:
                tag, before = _tag(row[at] if len(row) > at else "_", before)
                tags.append(tag)
            yield Row(line, {"tokens": [row[2] for row in words], "tags": tags})


def _tag(cell: str, before: tuple[str, str]) -> tuple[str, tuple[str, str]]:
    """A word's tag, and the entity that it belongs to; of several entities on a word the first."""
    found = _VALUE.match(cell.split("|", maxsplit=1)[0].replace("\\_", "_"))
    label, number = (found[1], found[2] or "") if found else ("_", "")
    if label in ("_", "", "*"):
        return ("O", ("", "")) if label != "*" else ("B-*", ("*", number))
    here = (label, number)
    return (f"I-{label}" if number and here == before else f"B-{label}"), here


FORMAT = Format(
    "WebAnno's TSV", "tags", "WebAnno and INCEpTION (WebAnno TSV 3)",
    is_file=_is_file, open=_open, columns=("tokens", "tags"),
)  # fmt: skip
