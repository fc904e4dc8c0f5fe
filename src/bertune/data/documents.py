"""Running text as documents of sentences: plain text, tables with a text column, gzipped or not, as a stream."""

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bertune.data.tables import open_table
from bertune.errors import InputError, Problems
from bertune.files.text_files import lines as text_lines
from bertune.files.text_files import plain_suffix

Lines = Literal["auto", "sentences", "documents"]
"""What a line of plain text is: a sentence, with blank lines between documents; or a whole document."""

Kind = Literal["text", "table", "tfrecord"]

_TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet"}
_SAMPLED = 20_000
"""Lines looked at to tell whether blank lines part documents."""
_LONGEST = 1 << 20
"""Characters of a document; a longer one goes on as another, so that memory stays bounded."""
_SENTENCE_END = re.compile(r"([.!?…][\"'”’)\]]*)\s+|([。！？]+[”’）」』]*)")


@dataclass(frozen=True, slots=True)
class Document:
    """Some sentences in a row, none of them blank. line: where it starts in its file, from 1."""

    sentences: list[str]
    line: int


def find_files(patterns: Iterable[str], flag: str) -> list[Path]:
    """The files that names and glob patterns stand for, in order, each once.

    Raises:
        InputError: a name or pattern that no file has, or a folder; all of them at once.
    """
    problems = Problems()
    found: dict[Path, None] = {}
    for pattern in patterns:
        names = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 (absolute patterns too)
        if not names:
            problems.add(f"{flag} {pattern}: no such file, and no file fits it as a pattern")
        for path in map(Path, names):
            if path.is_file():
                found[path] = None
            elif len(names) == 1:
                problems.add(f"{flag} {path}: is a folder; name files in it, such as '{path}/*.txt'")
    problems.raise_if_any()
    return list(found)


def corpus_kind(files: Sequence[Path]) -> Kind:
    """What the files are, by suffix and first bytes.

    Raises:
        InputError: TFRecord files beside others.
    """
    from bertune.tensorflow_formats.tfrecord import (
        is_tfrecord,  # needs google_crc32c, which bertune-runtime does without
    )

    records = [path for path in files if is_tfrecord(path) or path.suffix in {".tf_record", ".tfrecord", ".tfrecords"}]
    if not records:
        return "table" if all(is_table(path) for path in files) else "text"
    others = [path for path in files if path not in records]
    if others:
        raise InputError(f"{others[0]} is text, but {records[0]} holds instances (TFRecord); give one kind at a time")
    return "tfrecord"


def is_table(path: Path) -> bool:
    """Whether a file's suffix says that it holds rows with columns."""
    return plain_suffix(path) in _TABLES


def meaning_of_lines(files: Sequence[Path]) -> Lines:
    """Sentences when a blank line parts two others near the beginning of any plain file, else documents."""
    for path in files:
        if is_table(path):
            continue
        blank = False
        for _, text in itertools.islice(_checked_lines(path), _SAMPLED):
            if blank and text.strip():
                return "sentences"
            blank = blank or not text.strip()
    return "documents"


def read_documents(path: Path, lines: Lines, text_column: str = "text") -> Iterator[Document]:
    """The documents of a file, in constant memory.

    Args:
        path: plain text, or CSV, TSV, JSON lines or Parquet by its suffix; each also gzipped, but for Parquet.
        lines: what a line of plain text is; `sentences` or `documents`.
        text_column: a table's column of texts, each a document.

    Raises:
        InputError: a missing or damaged file, one that is not text in UTF-8, a table without that column.
    """
    if is_table(path):
        texts = _cells(path, text_column)
    elif lines == "sentences":
        yield from _blocks(_checked_lines(path))
        return
    else:
        texts = _checked_lines(path)
    for line, text in texts:
        for part in _bounded(text):
            if sentences := split_sentences(part):
                yield Document(sentences, line)


def read_texts(path: Path, text_column: str = "text") -> Iterator[tuple[int, str]]:
    """Line and text of every row of a table, or of every line of plain text that is not blank, as they stand.

    Raises:
        InputError: as for `read_documents`.
    """
    if is_table(path):
        yield from _cells(path, text_column)
    else:
        yield from (item for item in _checked_lines(path) if item[1].strip())


def split_sentences(text: str) -> list[str]:
    """Sentences of running text: at line ends, and behind marks that end one; a simple rule for any language."""
    lines = _SENTENCE_END.sub(lambda end: f"{end[1] or end[2]}\n", text).split("\n")
    return [stripped for line in lines if (stripped := line.strip())]


def _cells(path: Path, column: str) -> Iterator[tuple[int, str]]:
    rows = open_table(path, columns=[column])
    for row in rows:
        value = row.values[column]
        if not isinstance(value, str):
            raise InputError(f"{rows.where(row, column)}: expected text, found {value!r}")
        yield row.line, value


def _bounded(text: str) -> Iterator[str]:
    for start in range(0, len(text), _LONGEST):
        yield text[start : start + _LONGEST]


def _blocks(lines: Iterable[tuple[int, str]]) -> Iterator[Document]:
    """Documents from lines that are sentences."""
    sentences, first, size = list[str](), 1, 0
    for line, text in lines:
        sentence = text.strip()
        if sentences and (not sentence or size > _LONGEST):
            yield Document(sentences, first)
            sentences, size = [], 0
        if sentence:
            if not sentences:
                first = line
            sentences.append(sentence)
            size += len(sentence)
    if sentences:
        yield Document(sentences, first)


def _checked_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line; stops at the first block that is not text."""
    problems = Problems(limit=3)
    with path.open("rb") as file:
        start = file.read(4)
    gzipped = start.startswith(b"\x1f\x8b") or path.suffix.lower() == ".zst"
    for item in text_lines(path, gzipped, problems):
        problems.raise_if_any()
        yield item
    problems.raise_if_any()
