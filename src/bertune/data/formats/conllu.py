"""CoNLL-U: ten columns, the token second; named entities, where there are any, in the last column as `NER=B-PER`.

Ranges of tokens (`1-2`) and empty nodes (`1.1`) are passed over. With `--tag-at` another column holds the tags, for
example 3 the parts of speech.
"""

import re
from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.formats.token_lines import columns_of, sentences
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import InputError

_WIDTH = 10
_NUMBER = re.compile(r"\d+([-.]\d+)?$")
_ENTITY = re.compile(r"(?:^|\|)(?:NER|Ner|ner|NE|Name|name|Entity)=([^|]+)")


def _is_file(sample: Sample) -> bool:
    rows = columns_of(sample)
    return bool(rows) and all(len(row) == _WIDTH and bool(_NUMBER.match(row[0])) for row in rows)


def _open(sample: Sample) -> Rows:
    at = int(getattr(sample.options, "tag_at", -1))
    if at == -1 and not any(_ENTITY.search(row[-1]) for row in columns_of(sample)):
        raise InputError(
            f"{sample.path}: CoNLL-U without entities (NER=… in its last column); to learn the tags of another column: "
            "--tag-at 3 --scheme io for parts of speech"
        )
    return single(FORMAT, sample, lambda: _rows(sample, at))


def _rows(sample: Sample, at: int) -> Iterator[Row]:
    for line, _, rows in sentences(sample):
        words = [row for row in rows if row[0].isdecimal()]
        if words:
            tags = [_tag(row, at) for row in words]
            yield Row(line, {"tokens": [row[1] for row in words], "tags": tags})


def _tag(row: list[str], at: int) -> str:
    if at not in (-1, _WIDTH - 1):
        return row[at]
    found = _ENTITY.search(row[-1])
    return found[1] if found else "O"


FORMAT = Format(
    "CoNLL-U", "tags", "Universal Dependencies with entities in MISC; UNER; any CoNLL-U with --tag-at",
    is_file=_is_file, open=_open, columns=("tokens", "tags"),
)  # fmt: skip
