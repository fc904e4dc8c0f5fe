"""What formats of one token a line share: lines of fields, in sentences that blank lines end."""

from collections.abc import Iterator

from bertune.data.formats.format import Sample
from bertune.errors import Problems
from bertune.files.text_files import lines


def sentences(sample: Sample) -> Iterator[tuple[int, list[str], list[list[str]]]]:
    """Line of the first token, comments, and fields (separated by tabs) of every sentence.

    Raises:
        InputError: The file cannot be read.
    """
    problems = Problems()
    start, comments, rows = 0, list[str](), list[list[str]]()
    for number, line in lines(sample.path, sample.gzipped, problems, sample.encoding):
        if line.strip():
            if line.startswith("#") and not rows:
                comments.append(line)
            else:
                start = start if rows else number
                rows.append(line.split("\t"))
            continue
        if rows:
            yield start, comments, rows
            comments, rows = [], []
    problems.raise_if_any()
    if rows:
        yield start, comments, rows


def columns_of(sample: Sample) -> list[list[str]]:
    """Fields of the first lines that are no comments."""
    return [line.split("\t") for line in sample.lines if not line.startswith("#")]
