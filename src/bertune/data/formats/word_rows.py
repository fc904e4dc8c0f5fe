"""A table with a header and a word a row, as Kaggle's annotated corpus for entities: `Sentence #,Word,POS,Tag`.

A sentence goes on while its column is empty or unchanged; without such a column it ends at a row of empty cells.
"""

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

from bertune.data.formats.format import Format, Sample
from bertune.data.rows import Row
from bertune.data.tables import Rows, Table, open_table
from bertune.errors import InputError, Problems

_SENTENCE = (
    "sentence", "sent", "sentenceid", "sentid", "sentenceidx", "sentidx", "sentenceno", "sentno", "sentencenumber",
    "sentencenum", "sentencenr", "docid", "documentid",
)  # fmt: skip
"""Customary names of the column that says which sentence a word is in, small letters and digits alone."""
_WORD = ("word", "words", "token", "tokens", "form")
_TAG = ("tag", "tags", "label", "labels", "ner", "nertag", "nertags", "bio", "biotag", "iob", "entity")
_LOOKED_AT = 200
_TABLES = (".csv", ".tsv", ".txt", ".xlsx", ".xlsm", ".parquet", ".arrow", ".feather")


class _Columns(NamedTuple):
    """sentence: None where empty rows divide sentences. tag: None where there is none."""

    sentence: str | None
    word: str
    tag: str | None


def _named(columns: Sequence[str], names: Sequence[str]) -> str | None:
    plain = {"".join(c for c in column.lower() if c.isalnum()): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain), None)


def _columns(sample: Sample, columns: Sequence[str]) -> _Columns | None:
    """Those of sentence, word and tag, as the options or custom name them; None where there is no such table."""
    own = [getattr(sample.options, name, None) for name in ("tokens_column", "tags_column")]
    word = own[0] if own[0] in columns else _named(columns, _WORD)
    tag = own[1] if own[1] in columns else _named(columns, _TAG)
    sentence = _named([name for name in columns if name not in (word, tag)], _SENTENCE)
    return None if word is None or (sentence is None and tag is None) else _Columns(sentence, word, tag)


def _header_has_words(sample: Sample) -> bool:
    """Whether the first line of a file of text can be such a header; quick, for every file passes here."""
    if not sample.head:
        return True
    line = (sample.lines or [""])[0].lstrip("\ufeff").lower()
    own = str(getattr(sample.options, "tokens_column", "") or "").lower()
    return any(mark in line for mark in ",;\t|") and any(name in line for name in (*_WORD, *filter(None, [own])))


def _is_file(sample: Sample) -> bool:
    if not sample.path.is_file() or sample.suffix not in _TABLES or not _header_has_words(sample):
        return False
    try:
        table = open_table(sample.path, sample.table)
        found = _columns(sample, table.columns)
        rows = [] if found is None else list(islice(iter(table), _LOOKED_AT))
    except InputError:  # whatever is wrong with it, reading it as a table says so
        return False
    if found is None or len(rows) < (2 if found.sentence is not None else 3):
        return False
    cells = [row.values.get(name) for row in rows for name in (found.word, found.tag) if name is not None]
    if not all(cell is None or (isinstance(cell, str) and len(cell.split()) < 2) for cell in cells):
        return False
    if found.sentence is None:
        return True
    marks = [row.values.get(found.sentence) for row in rows]
    return any(_is_blank(later) or later == mark for mark, later in pairwise(marks))


def _is_blank(value: object) -> bool:
    return value is None or not str(value).strip()


def _open(sample: Sample) -> Rows:
    table = open_table(sample.path, sample.table)
    found = _columns(sample, table.columns)
    if found is None:
        raise ValueError(f"{sample.path}: no column of words")
    names = [str(getattr(sample.options, "tokens_column", None) or "tokens")]
    names += [str(getattr(sample.options, "tags_column", None) or "tags")] if found.tag is not None else []
    return Table(sample.path, names, lambda: _sentences(table, found, names))


def _sentences(table: Rows, at: _Columns, names: Sequence[str]) -> Iterator[Row]:
    """A row of tokens and tags for every sentence.

    Raises:
        InputError: Rows without a word or a tag; words of no sentence that anything ends.
    """
    problems, ends = Problems(), 0
    words, tags = list[str](), list[str]()
    start, mark = 0, object()
    for row in table:
        own = row.values.get(at.sentence) if at.sentence is not None else None
        cells = [row.values.get(name) for name in (at.word, at.tag) if name is not None]
        blank = all(_is_blank(cell) for cell in cells)
        if blank if at.sentence is None else not _is_blank(own) and own != mark:
            ends += bool(words)
            if words and not problems:
                yield Row(start, dict(zip(names, (words, tags), strict=False)))
            words, tags, mark = [], [], own
        if blank and (at.sentence is None or _is_blank(own)):
            continue
        start = start if words else row.line
        if any(_is_blank(cell) for cell in cells):
            empty = at.word if _is_blank(cells[0]) else at.tag
            problems.add(f"{table.where(row, empty)}: empty; every row needs a word and its tag")
            continue
        words.append(str(cells[0]))
        tags.extend(str(cell) for cell in cells[1:])
    if at.sentence is None and not ends:
        problems.add(
            f"{table.path}: a word a row ({at.word!r}), and nothing says where a sentence ends; add a column "
            "'sentence' with its number, or a row of empty cells behind every sentence"
        )
    problems.raise_if_any()
    if words:
        yield Row(start, dict(zip(names, (words, tags), strict=False)))


FORMAT = Format(
    "a table with a word a row", "tags",
    "Kaggle's annotated corpus for entities (`Sentence #,Word,POS,Tag`); tables of sentence number, word and tag",
    is_file=_is_file, open=_open, columns=("tokens", "tags"),
)  # fmt: skip
