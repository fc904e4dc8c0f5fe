"""GermEval 2014: `# source [date]` before every sentence; number, token, tag of the outer and of the inner entity.

The outer entities are read; the inner ones with `--tag-at 3`.
"""

from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.formats.token_lines import columns_of, sentences
from bertune.data.rows import Row
from bertune.data.tables import Rows

_OUTER = 2
_WIDTH = 4


def _is_tag(field: str) -> bool:
    return field == "O" or field[:2] in ("B-", "I-")


def _is_file(sample: Sample) -> bool:
    rows = columns_of(sample)
    return bool(rows) and all(
        len(row) == _WIDTH and row[0].isdecimal() and _is_tag(row[2]) and _is_tag(row[3]) for row in rows
    )


def _open(sample: Sample) -> Rows:
    at = int(getattr(sample.options, "tag_at", -1))
    return single(FORMAT, sample, lambda: _rows(sample, _OUTER if at == -1 else at))


def _rows(sample: Sample, at: int) -> Iterator[Row]:
    for line, _, rows in sentences(sample):
        yield Row(line, {"tokens": [row[1] for row in rows], "tags": [row[at] for row in rows]})


FORMAT = Format(
    "GermEval 2014's columns, outer entities", "tags", "GermEval 2014 NER; NoSta-D",
    is_file=_is_file, open=_open, columns=("tokens", "tags"),
)  # fmt: skip
