"""Opens any table that people have: the one place where a file becomes rows with named columns.

Bytes → encoding (`data.encodings`) → separator, quotes, header (`data.dialects`) → rows (`data.rows`), as a stream in
constant memory. What was recognised, and is not what the file's name promises, is logged in one line.

* .csv, .tsv, .txt and names without a known suffix (each also with .gz or .zst): text.
* .jsonl, .ndjson, and .json that holds an array, an object of columns, or lines (`data.json_rows`).
* .parquet, .arrow and .feather, with the names of classes that `datasets` keeps there (`data.arrow_rows`).
* .xlsx (`data.excel`).
"""

import itertools
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from bertune.data import arrow_rows, dialects, excel, json_rows
from bertune.data.columns import is_customary, listed, repeated, unknown_column
from bertune.data.encodings import encoding_of, named_encoding
from bertune.data.row_tap import observed
from bertune.data.rows import Row, RowFile, check_file, open_rows
from bertune.data.table_options import TableOptions
from bertune.errors import InputError, Problems
from bertune.files.text_files import blocks, is_compressed, plain_suffix

logger = logging.getLogger(__name__)

KNOWN = ".csv, .tsv, .txt, .jsonl, .ndjson, .json (each also with .gz or .zst), .parquet, .arrow, .feather and .xlsx"
_OWN = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|"}
_JSON = (".jsonl", ".ndjson", ".json")
_REFUSED = {
    ".xls": "an old Excel file; save it as .xlsx or as CSV",
    ".ods": "a spreadsheet of LibreOffice; save it as .xlsx or as CSV",
    ".zip": "an archive; unpack it",
    ".tar": "an archive; unpack it",
    ".tgz": "an archive; unpack it",
    ".pkl": "a pickle, which may run code; save the table as CSV or Parquet",
    ".pickle": "a pickle, which may run code; save the table as CSV or Parquet",
    ".docx": "a document; save its table as CSV",
    ".pdf": "a document; save its table as CSV",
    ".sav": "a file of SPSS; save it as CSV",
    ".dta": "a file of Stata; save it as CSV",
}
DEFAULT = TableOptions()


class Rows(Protocol):
    """Rows with named columns, read anew by every iteration."""

    @property
    def path(self) -> Path:
        """The file, for messages."""
        ...

    @property
    def columns(self) -> list[str]:
        """Names of the columns, in order."""
        ...

    def __iter__(self) -> Iterator[Row]:
        """The rows. Raises InputError: what is wrong in the file, all at once."""
        ...

    def where(self, row: Row | int, column: str | None = None) -> str:
        """A row's place, for messages: "train.csv, line 12, column 'label'"."""
        ...


@dataclass(frozen=True)
class Table:
    """Rows from anything that can be read again and again.

    read: Starts reading.  unit: What `Row.line` counts.
    """

    path: Path
    columns: list[str]
    read: Callable[[], Iterator[Row]]
    unit: str = "line"

    def __iter__(self) -> Iterator[Row]:
        """The rows, read anew."""
        return self.read()

    def where(self, row: Row | int, column: str | None = None) -> str:
        """A row's place in its file."""
        place = f"{self.path}, {self.unit} {row.line if isinstance(row, Row) else row}"
        return place if column is None else f"{place}, column {column!r}"


def open_table(path: Path, options: TableOptions = DEFAULT, *, columns: Sequence[str] | None = None) -> Rows:
    """Open a file of rows, whatever program wrote it.

    Args:
        path: The file.
        options: What is known about it; the rest is recognised.
        columns: Columns that must be there; None: any.

    Raises:
        InputError: The file is missing, empty, damaged, of a kind that is not read, or lacks such a column.
            What is wrong further on is reported when the rows are read.
    """
    check_file(path)
    gzipped = is_compressed(path)
    suffix = plain_suffix(path)
    if suffix in _REFUSED:
        raise InputError(f"{path} is {_REFUSED[suffix]}. Files that are read: {KNOWN}")
    rows: Rows
    if suffix in (".parquet", ".arrow", ".feather") and not gzipped:
        rows = _checked(Table(path, *arrow_rows.open_arrow(path), unit="row"))
    elif suffix in (".xlsx", ".xlsm"):
        rows = _checked(_spreadsheet(path, options))
    elif suffix in _JSON:
        rows = _open_json(path, gzipped, suffix, options)
    else:
        rows = open_text(path, options, own=_OWN.get(suffix))
    if columns is not None:
        problems = Problems()
        problems.extend(f"{path}: {unknown_column(name, rows.columns)}" for name in columns if name not in rows.columns)
        problems.raise_if_any()
    return observed(rows)


def head_of(path: Path, gzipped: bool, encoding: str) -> str:
    """The beginning of a text file, whole lines, about a megabyte at most."""
    return next((text for _, text in blocks(path, gzipped, Problems(), encoding)), "")


def chosen_encoding(path: Path, options: TableOptions, gzipped: bool | None = None) -> str:
    """The codec of a text file: as named, or recognised and then logged."""
    if options.encoding is not None:
        return named_encoding(options.encoding)
    found = encoding_of(path, is_compressed(path) if gzipped is None else gzipped)
    if found.recognised:
        logger.info("%s: read as %s (another one: --encoding)", path, found.name)
    return found.codec


def open_text(path: Path, options: TableOptions, own: str | None) -> Rows:
    """A table of text. own: The separator that the name promises; None: lines of text, unless it looks like a table."""
    gzipped = is_compressed(path)
    encoding = chosen_encoding(path, options, gzipped)
    head = head_of(path, gzipped, encoding)
    _refuse_other_kinds(path, head)
    separator = _separator_of(options.delimiter)
    if own is None and separator is None and not _looks_like_table(head):
        if not head.strip():
            raise InputError(f"{path} is empty")
        return Table(path, ["text"], lambda: _lines_of_text(path, gzipped, encoding))
    dialect = dialects.recognise(head, own, separator=separator, header=options.header)
    file = RowFile(path, [], "csv", gzipped, dialect.header, dialect.quoted)
    file = replace(
        file, _encoding=encoding, _separator=dialect.separator, _lenient=True, _skipped=dialect.skipped,
        _spaced=dialect.spaced,
    )  # fmt: skip
    names = file.names_in_file()
    if not names:
        raise InputError(f"{path} is empty: it holds no columns")
    _log_dialect(path, dialect, own, options, names)
    return _checked(_named(file, names))


def _separator_of(given: str | None) -> str | None:
    if given is None:
        return None
    meant = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}.get(given.lower(), given)
    if len(meant) != 1 or meant in '"\r\n':
        raise InputError(f"--delimiter {given!r}: must be one character (or tab, comma, semicolon, pipe)")
    return meant


def _looks_like_table(head: str) -> bool:
    """Whether the lines of a file are separated by tabs, or begin with a header of customary names."""
    records = dialects.sample_records(head, "\t", quoted=False)
    widths = {len(fields) for fields in records}
    if len(widths) == 1 and widths != {1}:
        return True
    if "\t" in head and dialects.tabs_are_quoted(head):
        return True
    for separator in dialects.SEPARATORS:
        records = dialects.sample_records(head, separator, quoted=True)
        if len({len(fields) for fields in records}) == 1 and len(records[0]) > 1:
            first = [field.strip() for field in records[0]]
            if any(is_customary(name) for name in first):
                return True
    return False


def _refuse_other_kinds(path: Path, head: str) -> None:
    start = head.lstrip("\ufeff \r\n\t")[:200]
    if start.startswith("version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the data; run `git lfs pull`")
    if start[:15].lower().startswith(("<!doctype html", "<html")):
        raise InputError(f"{path} is a web page, not data; was it downloaded from a page that asks to log in?")
    if start.startswith("<table"):
        raise InputError(f"{path} is a table in HTML; open it in a spreadsheet and save it as CSV")
    if start.startswith("|") and re.search(r"\n\|[\s:|-]*-[\s:|-]*\n", head[:4000]):
        raise InputError(f"{path} is a table in Markdown; save it as CSV")
    if start.startswith(("{", "[")) and path.suffix.lower() in (".csv", ".tsv"):
        import json

        try:
            json.loads(start.splitlines()[0]) if "\n" in head[:1000] else None
        except ValueError:
            return
        if start.startswith("{"):
            raise InputError(f"{path} holds JSON; name it .jsonl (or .json)")


def _named(file: RowFile, names: list[str]) -> RowFile:
    """The file with its named columns only."""
    if not file._header:
        return replace(file, columns=names, _names=tuple(names))
    unnamed = [i for i, name in enumerate(names) if not name.strip()]
    kept = [name for name in names if name.strip()]
    if unnamed and kept:
        numbers = ", ".join(map(str, unnamed))
        one = len(unnamed) == 1
        logger.info(
            "%s: column%s %s (from 0) %s no name; left out", file.path, "" if one else "s", numbers,
            "has" if one else "have",
        )  # fmt: skip
        return replace(file, columns=kept, _names=tuple(names), _selected=True)
    return replace(file, columns=names, _names=tuple(names))


def _checked(rows: Rows) -> Rows:
    """Rows with distinct column names, and at least one row."""
    if twice := repeated(rows.columns):
        raise InputError(f"{rows.path} has several columns of the same name: {listed(twice)}; rename them")
    if next(iter(rows), None) is None:
        raise InputError(f"{rows.path} has columns ({listed(rows.columns)}) but no rows")
    return rows


def _log_dialect(
    path: Path, dialect: dialects.Dialect, own: str | None, options: TableOptions, names: list[str]
) -> None:
    parts = []
    if dialect.titles:
        lines = "the first line is a title" if dialect.titles == 1 else f"the first {dialect.titles} lines are titles"
        parts.append(f"{lines} above the table; left out")
    if dialect.separator != (own or "\t") and options.delimiter is None:
        known = dialects.SEPARATORS.get(dialect.separator, repr(dialect.separator))
        parts.append(f"fields are separated by {known} (--delimiter)")
    if dialect.separator == "\t" and dialect.quoted:
        parts.append("quoted as spreadsheets do")
    if not dialect.header and options.header is None:
        parts.append("no header, so columns are numbered from 0 (--header if there is one)")
    if dialect.header and options.header is None and len(names) == 1 and not is_customary(names[0]):
        parts.append(f"its first line, {names[0]!r}, is taken for the column's name (--no-header if it is a row)")
    if parts:
        logger.info("%s: %s", path, "; ".join(parts))


def _log_titles(path: Path, titles: Sequence[Sequence[str]]) -> None:
    rows = "the first row is a title" if len(titles) == 1 else f"the first {len(titles)} rows are titles"
    logger.info("%s: %s above the table; left out", path, rows)


def _lines_of_text(path: Path, gzipped: bool, encoding: str) -> Iterator[Row]:
    from bertune.files.text_files import lines

    problems = Problems()
    for number, text in lines(path, gzipped, problems, encoding):
        if text.strip() and not problems:
            yield Row(number, {"text": text})
    problems.raise_if_any()


def _open_json(path: Path, gzipped: bool, suffix: str, options: TableOptions) -> Rows:
    encoding = chosen_encoding(path, options, gzipped)
    head = head_of(path, gzipped, encoding)
    if not head.strip("\ufeff \r\n\t"):
        raise InputError(f"{path} is empty: it holds no columns")
    start = head.lstrip("\ufeff \r\n\t")
    if suffix != ".json" and not start.startswith("["):
        _refuse_loose_objects(path, start)
    if (suffix != ".json" and not start.startswith("[{")) or json_rows.is_lines(head):
        if suffix == ".json":
            logger.info("%s: read as JSON lines", path)
        return open_rows(path, kind="jsonl", encoding=encoding)
    unit, read = json_rows.open_json(path, gzipped, encoding)
    first = next(read(), None)
    if first is None:
        raise InputError(f"{path} is empty: it holds no rows")
    return Table(path, list(first.values), read, unit)


def _refuse_loose_objects(path: Path, start: str) -> None:
    """Refuse, with what to do, objects that stand on several lines or are divided by commas."""
    first, second = (f"{start}\n\n".split("\n", 2)[i].strip() for i in (0, 1))
    if first == "{" and second.startswith('"'):
        raise InputError(
            f"{path}: each of its objects takes several lines; JSON lines have one object a line (jq -c . {path.name})"
        )
    if first.endswith("},"):
        raise InputError(
            f"{path}: its objects are divided by commas; put the whole in [ ] and name it .json, or take the commas "
            "away for JSON lines"
        )


def _spreadsheet(path: Path, options: TableOptions) -> Table:
    def records() -> Iterator[tuple[int, list[str]]]:
        return itertools.islice(excel.records(path, options.sheet), above, None)

    above = 0
    head = [fields for _, fields in itertools.islice(excel.records(path, options.sheet, tell=True), 200)]
    if not head:
        raise InputError(f"{path} is empty: it holds no columns")
    if options.header is not False and (above := dialects.titles(head)):
        _log_titles(path, head[:above])
        head = head[above:]
    header = dialects.has_header(head) if options.header is None else options.header
    names = [name.strip() for name in head[0]] if header else [str(i) for i in range(max(map(len, head)))]
    if not header and options.header is None:
        logger.info("%s: no header, so columns are numbered from 0 (--header if there is one)", path)
    picks = [(name, i) for i, name in enumerate(names) if name]

    def read() -> Iterator[Row]:
        for number, fields in itertools.islice(records(), 1 if header else 0, None):
            yield Row(number, {name: fields[i] if i < len(fields) else "" for name, i in picks})

    return Table(path, [name for name, _ in picks], read, unit="row")
