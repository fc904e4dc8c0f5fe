"""CoNLL files: one token a line, columns by white space or tabs, a blank line after every sentence."""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.data.formats.format import Sample
from bertune.errors import InputError, Problems
from bertune.files.inputs import no_such_file
from bertune.files.text_files import lines

logger = logging.getLogger(__name__)

_COMMENT = re.compile(r"#\s*(\w+ = |id )")
_NUMBER = re.compile(r"\d+([-.]\d+)?")
_TOKEN_AND_TAG = 2
_LONGEST = 1 << 20
"""Characters of a line, which holds a token and what is said of it."""
_SEPARATOR = re.compile(r"[ \t\u3000]+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens and tags (none where the file has none); line: where it begins."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


def read_conll(sample: Sample, *, token_at: int, tag_at: int, labelled: bool) -> Iterator[Sentence]:
    """Sentences of a file. `-DOCSTART-` lines and comments are passed over.

    Columns are divided by tabs where a line has them, else by spaces. Where the first column counts the tokens, the
    next one holds them; columns that are blank in the whole file are passed over. From the first bad line on nothing is
    given out, and at the end one error reports all of them.

    Args:
        sample: the file; a name that ends in .gz is unpacked.
        token_at: which column holds the token, from 0; negative ones count from the end.
        tag_at: which holds the tag.
        labelled: whether tags are read; without, lines may have any number of columns.

    Raises:
        InputError: no such file, not text, lines of different numbers of columns.
    """
    path = sample.path
    problems = Problems()
    tokens: list[str] = []
    tags: list[str] = []
    width, first, start = 0, 0, 0
    _refuse_what_is_no_file(path)
    geometry = _geometry(sample, token_at)
    for number, line in _lines(sample):
        fields = fields_of(line, geometry.blank)
        if not tokens and line.startswith("#") and _is_comment(line, len(fields), geometry.width):
            continue
        if not fields or fields[0] == "-DOCSTART-":
            if tokens and not problems:
                yield Sentence(tuple(tokens), tuple(tags), start)
            tokens, tags = [], []
            continue
        if geometry.counted and not fields[0].isdecimal():
            continue  # CoNLL-U's lines of several words (1-2) and of words that are not in the text (2.1)
        width, first = width or len(fields), first or number
        at = (geometry.token_at, tag_at)
        wrong = _wrong(fields, (width, first), at, labelled)
        if wrong:
            problems.add(f"{path}, line {number}: {wrong}")
        else:
            start = start if tokens else number
            tokens.append(fields[geometry.token_at])
            tags.extend([fields[tag_at]] if labelled else [])
    if tokens and not problems:
        yield Sentence(tuple(tokens), tuple(tags), start)
    problems.raise_if_any()


@dataclass(frozen=True)
class _Geometry:
    """Which column holds the token; which are blank in all lines; how many columns most lines have.

    counted: whether the first column counts the tokens.
    """

    token_at: int
    blank: tuple[int, ...]
    width: int
    counted: bool = False


def fields_of(line: str, blank: tuple[int, ...] = ()) -> list[str]:
    """The fields of a line, without those at the places `blank`; none of a blank line."""
    if not line.strip():
        return []
    fields = line.split("\t") if "\t" in line else _SEPARATOR.split(line.strip())
    return [field.strip() for i, field in enumerate(fields) if i not in blank]


def _geometry(sample: Sample, token_at: int) -> _Geometry:
    lines = [line for line in sample.lines if not line.startswith(("#\t", "# ", "-DOCSTART-"))]
    rows = [fields for line in lines if (fields := fields_of(line))]
    width = Counter(len(row) for row in rows).most_common(1)[0][0] if rows else 0
    same = [row for row in rows if len(row) == width]
    blank = tuple(i for i in range(width) if all(not row[i] for row in same))
    numbers = [row[0] for row in same]
    counted = token_at == 0 and width > _TOKEN_AND_TAG and all(map(_NUMBER.fullmatch, numbers))
    if counted and _counts([int(number) for number in numbers if number.isdecimal()]):
        logger.info("%s: its first column counts the tokens; they are read from the second (--token-at)", sample.path)
        return _Geometry(1, blank, width - len(blank), counted=True)
    return _Geometry(token_at, blank, width - len(blank))


def _counts(numbers: Sequence[int]) -> bool:
    """Whether numbers count up by one, beginning anew with every sentence."""
    steps = [two - one for one, two in itertools.pairwise(numbers)]
    return bool(steps) and all(step == 1 or two in (0, 1) for step, two in zip(steps, numbers[1:], strict=True))


def _is_comment(line: str, fields: int, width: int) -> bool:
    """Whether a line before a sentence that begins with # is a comment, rather than the token #."""
    return bool(_COMMENT.match(line)) or (line[1:2] in (" ", "\t", "") and fields != width)


def _wrong(fields: list[str], expected: tuple[int, int], at: tuple[int, int], labelled: bool) -> str | None:
    width, first = expected
    if labelled and len(fields) != width:
        return f"{len(fields)} columns, but line {first} has {width}; every line needs a token and its tag"
    if labelled and len(fields) < 2:
        return f"only {fields[0]!r}; a token and its tag are needed, divided by a space or tab"
    for name, index in zip(("token", "tag") if labelled else ("token",), at, strict=False):
        if not -len(fields) <= index < len(fields):
            return f"{len(fields)} columns, so none is number {index} (--{name}-at, from 0)"
        if not fields[index]:
            return f"the {name} is empty"
    return None


def _refuse_what_is_no_file(path: Path) -> None:
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file in it")
    if not path.is_file():
        raise InputError(f"{path}: {no_such_file(path)}")


def _lines(sample: Sample) -> Iterator[tuple[int, str]]:
    path, problems = sample.path, Problems()
    for number, line in lines(path, sample.gzipped, problems, sample.encoding):
        problems.raise_if_any()
        if len(line) > _LONGEST:
            raise InputError(f"{path}, line {number} is longer than {_LONGEST} characters; is this a CoNLL file?")
        if "\r" in line.rstrip("\r"):
            raise InputError(
                f"{path}, line {number}: carriage returns (CR) inside, where other lines end in LF; was the file "
                "joined from several? `tr '\\r' '\\n'` makes them line ends"
            )
        yield number, line.rstrip("\r")
    problems.raise_if_any()
