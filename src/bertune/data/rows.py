"""Rows from files: CSV, TSV, JSON lines (each also gzipped) and Parquet, read as a stream.

* Text is UTF-8, with or without a byte order mark. LF and CR LF end a line, in a file without LF also CR; U+2028 and a
  CR among LFs do not.
* CSV is quoted as in RFC 4180: a quoted text may hold commas, line ends and doubled quotes; text after a closing
  quote and a quote that is never closed are errors. TSV has no quoting: a quote is an ordinary character.
* The header is the first line that is not blank. Blank lines at the end of a file are ignored. Elsewhere a blank
  line of a one-column CSV or TSV file is a row with an empty value, so that rows keep in step with lines; with
  more columns it is an error. Blank lines of JSON lines files are ignored.
* A key that an object of a JSON lines file lacks, but the first object has, reads as None. A column that is asked
  for by name must be in every object.

Bad rows are told together: from the first one on no row is given out, the rest of the file is only checked, and
then one error names them all.
"""

import csv
import hashlib
import io
import itertools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from bertune.data.columns import guess_label_column, guess_text_columns, label_text, listed, repeated, unknown_column
from bertune.errors import InputError, Problems
from bertune.files.inputs import no_such_file, refuse_pipe
from bertune.files.pyarrow_package import require_pyarrow
from bertune.files.text_files import MAX_RECORD, blocks, chunks, is_compressed, lines, plain_suffix, unreadable

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

__all__ = ["Row", "RowFile", "file_sha256", "guess_label_column", "guess_text_columns", "label_text", "open_rows"]

_PARQUET_ROWS = 1024  # rows decoded at a time
_SUFFIXES = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
_LEGAL = ".csv, .tsv, .jsonl, .ndjson (each also with .gz or .zst) and .parquet"
_CSV_ERRORS = {
    "unexpected end of data": f"a quote opened in this record is not closed (within {MAX_RECORD >> 20} MiB)",
    "expected after": 'text follows a closing quote; inside a quoted text write a quote twice ("")',
    "new-line character": "a carriage return (CR) stands outside quotes; lines end in LF or CR LF",
}
_OTHER_HEADER = (
    "the header again, with its columns in another order; the file was joined from files that differ: read them one by "
    "one (--train a.csv b.csv)"
)
_HINTS = ("; without quoting no text can hold the separator", "; a text that holds the separator must be quoted")


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file.

    line: Line of the file on which the record starts, from 1 (Parquet: number of the row, from 1).
    values: Value of every column: text in CSV and TSV, else the file's own scalars, lists and objects.
    """

    line: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class RowFile:
    """A file of rows; every iteration reads it anew, in constant memory. Made by `open_rows`.

    path: The file.
    columns: Names of the columns, in order; "0", "1", … without a header; keys of the first object of JSON lines.
    """

    path: Path
    columns: list[str]
    _kind: str
    _gzipped: bool
    _header: bool
    _quoted: bool
    _encoding: str = "utf-8"
    _separator: str = ""  # of fields; empty: the one that the suffix names
    _lenient: bool = False  # pass over further headers, and over empty fields behind the last column
    _skipped: int = 0  # lines before the header
    _spaced: bool = False  # spaces before a quote, as in `"a", "b"`, do not count
    _names: tuple[str, ...] = ()  # all columns of the file
    _selected: bool = False

    def __iter__(self) -> Iterator[Row]:
        """Rows in the order of the file.

        Raises:
            InputError: when the file cannot be read or rows are wrong; it names all of them, 20 at length.
        """
        problems = Problems()
        try:
            readers = {"parquet": self._parquet_rows, "jsonl": self._json_rows}
            yield from readers.get(self._kind, self._table_rows)(problems)
        except InputError as error:  # the file cannot be read on; what was wrong before is told too
            problems.add(str(error))
        problems.raise_if_any()

    def where(self, row: Row | int, column: str | None = None) -> str:
        """Place in the file, for messages: "train.csv, line 12, column 'label'"."""
        unit = "row" if self._kind == "parquet" else "line"
        return f"{self.path}, {unit} {row.line if isinstance(row, Row) else row}" + (
            "" if column is None else f", column {column!r}"
        )

    def select(self, columns: Sequence[str]) -> "RowFile":
        """The same file with these columns only, each of which every row must have.

        Raises:
            InputError: when there is no such column.
        """
        problems = Problems()
        unknown = (name for name in columns if name not in self._names)
        problems.extend(f"{self.path}: {unknown_column(name, self._names)}" for name in unknown)
        problems.raise_if_any()
        return replace(self, columns=list(dict.fromkeys(columns)), _selected=True)

    @property
    def typed(self) -> bool:
        """Whether the file tells numbers from texts."""
        return self._kind in ("jsonl", "parquet")

    def names_in_file(self) -> list[str]:
        """Names of all columns as the file has them; numbers from 0 without a header."""
        if self._kind == "parquet":
            with parquet_file(self.path) as reader:
                return list(reader.schema_arrow.names)
        if self._kind == "jsonl":
            return next((list(row.values) for row in self), [])
        problems = Problems()
        names = _first_record(self._records(problems)) or []
        if not names:
            problems.raise_if_any()
        return names if self._header else [str(index) for index in range(len(names))]

    def _records(self, problems: Problems) -> Iterator[tuple[int, list[str]]]:
        """Line and fields of every record of a CSV or TSV file, the header included; a blank line has no fields."""
        separator = self._separator or ("," if self._kind == "csv" else "\t")
        if self._quoted:
            records = _quoted_records(self, separator, problems)
            return itertools.islice(records, self._skipped, None) if self._skipped else records
        unquoted = itertools.islice(lines(self.path, self._gzipped, problems, self._encoding), self._skipped, None)
        return ((line, text.split(separator) if text else []) for line, text in unquoted)

    def _table_rows(self, problems: Problems) -> Iterator[Row]:
        names, width = self._names, len(self._names)
        picks = [(name, names.index(name)) for name in self.columns] if self._selected else None
        records = self._records(problems)
        if self._header:
            _first_record(records)
        blank_from = 0  # first of the blank lines just before this record; 0: none
        hint = _HINTS[self._quoted]
        # A file that was joined from several may hold its header again.
        again = {name.strip().lower() for name in names} if self._lenient and self._header and width > 1 else ()
        for line, fields in records:
            if len(fields) != width:
                if self._lenient and len(fields) > width and not any(fields[width:]):
                    fields = fields[:width]
                elif _is_blank(fields):
                    blank_from = blank_from or line
                    continue
            elif fields[0].strip().lower() in again and (found := self._header_again(fields)):
                if found == "other":
                    problems.add(f"{self.where(line)}: {_OTHER_HEADER}")
                else:
                    logger.info("%s: the header again; passed over", self.where(line))
                continue
            if blank_from:
                for blank in range(blank_from, line):
                    if width > 1:
                        problems.add(f"{self.where(blank)}: {width} fields expected, a blank line found")
                    elif not problems:
                        yield Row(blank, dict.fromkeys(self.columns, ""))
                blank_from = 0
            if len(fields) != width:
                problems.add(f"{self.where(line)}: {width} fields expected, {len(fields)} found{hint}")
                hint = ""  # once is enough
            elif not problems:
                pairs = zip(names, fields, strict=True)
                yield Row(line, dict(pairs) if picks is None else {name: fields[index] for name, index in picks})

    def _header_again(self, fields: Sequence[str]) -> str | None:
        """Whether a row is the header: "same", but for case and spaces; "other": in another order; None: it is not."""
        here, names = ([field.strip().lower() for field in row] for row in (fields, self._names))
        if here == names:
            return "same"
        return "other" if sorted(here) == sorted(names) and len(set(names)) == len(names) else None

    def _json_rows(self, problems: Problems) -> Iterator[Row]:
        decode = json.JSONDecoder(object_pairs_hook=_unique_keys).decode
        empty = dict.fromkeys(self._names)
        for line, text in lines(self.path, self._gzipped, problems, self._encoding):
            if not text or text.isspace():
                continue
            try:
                value = decode(text)
                if not isinstance(value, dict):
                    raise ValueError(f"one JSON object is expected on every line, not {text[:40]}")
                if "\\ud" in text or "\\uD" in text:
                    json.dumps(value, ensure_ascii=False).encode()
            except (ValueError, RecursionError) as error:
                problems.add(f"{self.where(line)}{_json_problem(error)}")
                continue
            if self._selected:
                if missing := [name for name in self.columns if name not in value]:
                    problems.add(f"{self.where(line)}: no key {listed(missing)}; the keys are {listed(value)}")
                    continue
                value = {name: value[name] for name in self.columns}
            elif value.keys() != empty.keys():
                value = {**empty, **value}
            if not problems:
                yield Row(line, value)

    def _parquet_rows(self, problems: Problems) -> Iterator[Row]:
        first = 1
        with parquet_file(self.path) as reader:
            for batch in reader.iter_batches(_PARQUET_ROWS, columns=self.columns):
                # Asking for a column "a.b" brings in the field b of a structure a, too.
                batch = batch.select(self.columns)
                rows = self._cells(batch, first, problems)
                if not problems:
                    yield from map(Row, itertools.count(first), rows)
                first += batch.num_rows

    def _cells(self, batch: "pa.RecordBatch", first: int, problems: Problems) -> list[dict[str, object]]:
        try:
            return cast(list[dict[str, object]], batch.to_pylist())
        except ValueError:  # text that is not UTF-8, a time finer than Python's: find which
            for name in self.columns:
                for row, cell in enumerate(batch[name], first):
                    try:
                        cell.as_py()
                    except ValueError as error:
                        problems.add(f"{self.where(row, name)}: {error}")
            return []


def open_rows(
    path: Path,
    *,
    header: bool = True,
    quoting: bool | None = None,
    columns: Sequence[str] | None = None,
    kind: str | None = None,
    encoding: str = "utf-8",
) -> RowFile:
    """Open a file of rows by its suffix: .csv, .tsv, .jsonl, .ndjson (each also with .gz or .zst) or .parquet.

    Takes the file as its name says; `data.tables.open_table` recognises what people have.

    Args:
        path: The file.
        header: CSV and TSV: whether the first line names the columns; else they are "0", "1", ….
        quoting: CSV and TSV: whether quotes have a meaning. None: yes in CSV, no in TSV.
        columns: Read these columns only; every row must have them. None: all columns.
        kind: csv, tsv, jsonl or parquet, whatever the suffix.
        encoding: A Python codec, for files of text.

    Raises:
        InputError: when the file is missing, of no known kind, empty or damaged at its beginning, names a column
            twice, or has no such column. What is wrong further on is told when the rows are read.
    """
    check_file(path)
    gzipped = is_compressed(path)
    kind = kind or _SUFFIXES.get(plain_suffix(path))
    if kind is None or (gzipped and kind == "parquet"):
        raise InputError(f"{path}: cannot tell the format from the name; legal suffixes are {_LEGAL}")
    quoted = kind == "csv" if quoting is None else quoting
    rows = RowFile(path, [], kind, gzipped, header, quoted, _encoding=encoding)
    if not (names := rows.names_in_file()):
        raise InputError(f"{path} is empty: it holds no columns")
    if twice := repeated(names):
        raise InputError(f"{path} has several columns of the same name: {listed(twice)}; rename them")
    rows = replace(rows, columns=names, _names=tuple(names))
    if next(iter(rows), None) is None:
        raise InputError(f"{path} has columns ({listed(names)}) but no rows")
    return rows if columns is None else rows.select(columns)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal, to record which data was used.

    Raises:
        InputError: when the file is missing or cannot be read.
    """
    check_file(path)
    digest = hashlib.sha256()
    for chunk in chunks(path, gzipped=False):
        digest.update(chunk)
    return digest.hexdigest()


def check_file(path: Path) -> None:
    """Raise InputError where there is no such file; names that are near are suggested."""
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give a file in it ({_LEGAL})")
        if path.exists():
            refuse_pipe(path)
            return
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise InputError(unreadable(path, error)) from error
    raise InputError(f"{path}: {no_such_file(path)}")


@contextmanager
def parquet_file(path: Path) -> Iterator["pa.parquet.ParquetFile"]:
    """A Parquet file to read. Raises InputError when it cannot be."""
    require_pyarrow(path)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as reader:
            yield reader
    except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a name that is not UTF-8
        raise InputError(unreadable(path, error)) from error


def _is_blank(fields: list[str]) -> bool:
    return not fields or (len(fields) == 1 and fields[0].isspace())


def _first_record(records: Iterator[tuple[int, list[str]]]) -> list[str] | None:
    return next((fields for _, fields in records if not _is_blank(fields)), None)


def _quoted_records(file: RowFile, separator: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    # The limit holds for the whole process and is 128 KiB at first; the size of a record is bounded below instead.
    csv.field_size_limit(2**31 - 1)
    start = 1  # line on which the record being read starts

    def physical_lines() -> Iterator[str]:
        held_by, size = 0, 0
        for _, text in blocks(file.path, file._gzipped, problems, file._encoding):
            held_by, size = start, len(text) + (size if held_by == start else 0)
            if size > MAX_RECORD:
                raise csv.Error("unexpected end of data")
            yield from io.StringIO(text, newline="\n")

    reader = csv.reader(physical_lines(), delimiter=separator, strict=True, skipinitialspace=file._spaced)
    while True:
        try:
            for fields in reader:
                yield start, fields
                start = reader.line_num + 1
            return
        except csv.Error as error:
            text = next((text for known, text in _CSV_ERRORS.items() if known in str(error)), str(error))
            problems.add(f"{file.path}, line {start}: {text}")
            start = reader.line_num + 1


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"the object has several keys {listed(repeated(key for key, _ in pairs))}")
    return found


def _json_problem(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f", column {error.colno}: not valid JSON ({error.msg}); one object is expected on every line"
    if isinstance(error, UnicodeEncodeError):
        return f": half of a surrogate pair (\\u{ord(error.object[error.start]):04x}), which is not a character"
    text = "the JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)
    return ": " + text.partition("; use sys.")[0]  # Python's advice on numbers of more than 4300 digits
