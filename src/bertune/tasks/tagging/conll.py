"""CoNLL files: one token a line, columns by white space or tabs, a blank line after every sentence."""

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertune.errors import InputError, Problems
from bertune.files.text_files import open_bytes

_COMMENT = re.compile(r"#\s*(\w+ = |id )")
_LONGEST = 1 << 20
"""Bytes of a line, which holds a token and what is said of it."""
_SEPARATOR = re.compile(r"[ \t\u3000]+")


@dataclass(frozen=True, slots=True)
class Sentence:
    """Tokens and tags (none where the file has none); line: where it begins."""

    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    line: int


def read_conll(path: Path, *, token_at: int, tag_at: int, labelled: bool) -> Iterator[Sentence]:
    """Sentences of a file. `-DOCSTART-` lines and comments (`# id …`, `# name = …`) are passed over.

    Columns are divided by tabs where a line has them, else by spaces. From the first bad line on nothing is given
    out, and at the end one error tells all of them.

    Args:
        path: UTF-8 text; a name that ends in .gz is unpacked.
        token_at: which column holds the token, from 0; negative ones count from the end.
        tag_at: which holds the tag.
        labelled: whether tags are read; without, lines may have any number of columns.

    Raises:
        InputError: no such file, not UTF-8, lines of different numbers of columns.
    """
    problems = Problems()
    tokens: list[str] = []
    tags: list[str] = []
    width, first, start = 0, 0, 0
    for number, line in _lines(path):
        fields = [] if not line.strip() else line.split("\t") if "\t" in line else _SEPARATOR.split(line.strip())
        if not tokens and _COMMENT.match(line):
            continue
        if not fields or fields[0] == "-DOCSTART-":
            if tokens and not problems:
                yield Sentence(tuple(tokens), tuple(tags), start)
            tokens, tags = [], []
            continue
        fields = [field.strip() for field in fields]
        width, first = width or len(fields), first or number
        wrong = _wrong(fields, (width, first), (token_at, tag_at), labelled)
        if wrong:
            problems.add(f"{path}, line {number}: {wrong}")
        else:
            start = start if tokens else number
            tokens.append(fields[token_at])
            tags.extend([fields[tag_at]] if labelled else [])
    if tokens and not problems:
        yield Sentence(tuple(tokens), tuple(tags), start)
    problems.raise_if_any()


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


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise InputError(f"there is no file {path}" if not path.is_dir() else f"{path} is a folder; give a file in it")
    data = b""
    try:
        with open_bytes(path, path.suffix == ".gz") as file:
            for number, data in enumerate(iter(lambda: file.readline(_LONGEST + 1), b""), 1):
                if len(data) > _LONGEST:
                    raise InputError(f"{path}, line {number} is longer than {_LONGEST} bytes; is this a CoNLL file?")
                text = data.decode("utf-8-sig" if number == 1 else "utf-8")
                if "\0" in text:
                    raise InputError(f"{path}, line {number}: a NUL byte; this is no text in UTF-8")
                yield number, text.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file with iconv") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}") from None
