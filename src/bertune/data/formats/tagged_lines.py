"""A sentence a line, every token with its tag behind it: `Anna/B-PER likes/O`, `Anna|B-PER`, `Anna_B-PER`.

As in WikiNER and the C&C tools, a part of speech may stand between: `Anna|NNP|B-PER`.
"""

import re
from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import Problems
from bertune.files.text_files import lines

_WORD = re.compile(r"(.+)([/|_\\])(O|[BIESLUM]-[^\s/|_\\]+)$")
_LEAST = 0.98


def _is_file(sample: Sample) -> bool:
    if sample.first is not None or sample.suffix in (".csv", ".parquet"):
        return False
    words = [word for line in sample.lines for word in line.split()]
    found = [one[2] for word in words if (one := _WORD.match(word))]
    several = any(len(line.split()) > 1 for line in sample.lines)
    return bool(words) and several and len(set(found)) == 1 and len(found) >= _LEAST * len(words)


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    problems, with_part = Problems(), _has_parts_of_speech(sample)
    for number, line in lines(sample.path, sample.gzipped, problems, sample.encoding):
        pairs = [_WORD.match(word) for word in line.split()]
        wrong = [word for word, pair in zip(line.split(), pairs, strict=True) if pair is None]
        if wrong:
            problems.add(f"{sample.path}, line {number}: {wrong[0]!r} has no tag behind it")
        elif pairs and not problems:
            found = [pair for pair in pairs if pair is not None]
            words = [one[1].rpartition(one[2])[0] if with_part else one[1] for one in found]
            yield Row(number, {"tokens": words, "tags": [one[3] for one in found]})
    problems.raise_if_any()


def _has_parts_of_speech(sample: Sample) -> bool:
    """Whether every word has its part of speech before the tag, as in `Anna|NNP|B-PER`."""
    found = [one for line in sample.lines for word in line.split() if (one := _WORD.match(word))]
    parts = [one[1].rpartition(one[2])[::2] for one in found]
    return bool(parts) and all(word and (part.isupper() or not part.isalnum()) for word, part in parts)


FORMAT = Format(
    "a tagged sentence a line", "tags", "files in the form word/TAG or word|TAG (C&C, Stanford, WikiNER)",
    is_file=_is_file, open=_open, columns=("tokens", "tags"),
)  # fmt: skip
