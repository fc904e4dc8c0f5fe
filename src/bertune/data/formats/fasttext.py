"""fastText's lines: `__label__sports __label__uk A text`, the labels before or behind the text."""

from collections.abc import Iterator

from bertune.data.formats.format import Format, Sample, single
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.errors import Problems
from bertune.files.text_files import lines

_PREFIX = "__label__"


def _is_file(sample: Sample) -> bool:
    found = sample.lines
    return bool(found) and sum(_PREFIX in line for line in found) > 0.9 * len(found)


def _open(sample: Sample) -> Rows:
    return single(FORMAT, sample, lambda: _rows(sample))


def _rows(sample: Sample) -> Iterator[Row]:
    problems = Problems()
    for number, line in lines(sample.path, sample.gzipped, problems, sample.encoding):
        words = line.split()
        if not words or problems:
            continue
        labels = [word.removeprefix(_PREFIX) for word in words if word.startswith(_PREFIX)]
        text = " ".join(word for word in words if not word.startswith(_PREFIX))
        yield Row(number, {"text": text, "label": labels[0] if len(labels) == 1 else labels or None})
    problems.raise_if_any()


FORMAT = Format(
    "fastText's lines", "labels", "fastText's supervised files (cooking, DBpedia, Amazon reviews as fastText has them)",
    is_file=_is_file, open=_open, columns=("text", "label"),
)  # fmt: skip
