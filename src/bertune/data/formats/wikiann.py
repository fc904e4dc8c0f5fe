"""WikiANN's files: `de:Berlin⇥B-LOC`, with the language before every token."""

import re
from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.formats.token_lines import columns_of, sentences
from bertune.data.rows import Row
from bertune.data.tables import Rows

_LANGUAGE = re.compile(r"([a-z]{2,3}(?:-[a-z-]+)?):")
_LEAST = 2


def _is_file(sample: Sample) -> bool:
    rows = columns_of(sample)
    found = [_LANGUAGE.match(row[0]) for row in rows]
    same = {one[1] for one in found if one}
    return len(rows) >= _LEAST and all(found) and len(same) == 1 and all(len(row) > 1 for row in rows)


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    for line, _, rows in sentences(sample):
        tokens = [row[0].partition(":")[2] or ":" for row in rows]
        yield Row(line, {"tokens": tokens, "tags": [row[-1].strip() for row in rows]})


FORMAT = Format(
    "WikiANN's columns", "tags", "WikiANN (PAN-X), also as datasets has it",
    is_file=_is_file, open=_open, columns=("tokens", "tags"),
)  # fmt: skip
