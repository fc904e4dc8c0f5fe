"""What a form of data is: how it is recognised, and how its rows become bertune's own."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bertune.data import json_rows
from bertune.data.rows import Row
from bertune.data.table_options import TableOptions
from bertune.data.tables import Rows, Table, chosen_encoding, head_of
from bertune.errors import InputError, Problems
from bertune.files.text_files import is_compressed, plain_suffix

Kind = Literal["labels", "tags", "choices"]
"""What rows are for: `text`, `label` or `labels`; `tokens` and `tags` or `text` and `entities`; `context`, `question`,
`choices`, `answer`."""

_BINARY = (".parquet", ".arrow", ".feather", ".xlsx", ".xlsm")


@dataclass(frozen=True)
class Sample:
    """The beginning of a file or folder, to recognise what wrote it."""

    path: Path
    options: TableOptions

    @property
    def gzipped(self) -> bool:
        """Whether its name says so."""
        return is_compressed(self.path)

    @property
    def suffix(self) -> str:
        """Of its name, without .gz or .zst."""
        return plain_suffix(self.path)

    @functools.cached_property
    def encoding(self) -> str:
        """The codec of its text."""
        return chosen_encoding(self.path, self.options, self.gzipped)

    @property
    def table(self) -> TableOptions:
        """The options with the encoding that was recognised, if it was looked for, so that it is logged once."""
        if self.options.encoding is None and "encoding" in self.__dict__:
            return dataclasses.replace(self.options, encoding=self.encoding)
        return self.options

    @functools.cached_property
    def head(self) -> str:
        """Its first lines; empty for folders and files that are no text."""
        if self.path.is_dir() or self.suffix in _BINARY:
            return ""
        return head_of(self.path, self.gzipped, self.encoding)

    @functools.cached_property
    def lines(self) -> list[str]:
        """Its first lines that are not blank, at most 200."""
        return [line.rstrip("\r") for line in self.head.split("\n", 400)[:400] if line.strip()][:200]

    @functools.cached_property
    def first(self) -> object:
        """The first value of a file of JSON: of an array its first item, else of its first line; None elsewhere."""
        start = self.head.lstrip("\ufeff \r\n\t")
        if start[:1] not in ("{", "["):
            return None
        try:
            if start.startswith("{"):
                return json.loads(start.split("\n", 1)[0])
        except (ValueError, RecursionError):
            pass
        try:
            if start.startswith("["):
                return next(json_rows.items(self.path, self.gzipped, self.encoding), (0, None))[1]
            return json.JSONDecoder().raw_decode(start)[0]
        except Exception:  # whatever is wrong with it, reading it as a table says so
            return None


Convert = Callable[[Mapping[str, object], bool], Iterable[dict[str, object]]]


@dataclass(frozen=True)
class Format:
    """A form in which data is published or exported.

    Exactly one of (`is_file`, `open`) and (`is_row`, `convert`) is there: a file or folder of its own kind, or a table
    whose rows are written in a way of their own.

    name: As logged.
    kind: What its rows are for.
    sets: Public data sets, or programs, that it covers; for the documentation.
    is_file: Whether a file or folder is of this form.
    open: Its rows.
    is_row: Whether a table is of this form, by its columns and its first row.
    convert: Given a row's values and whether labels are wanted, the same in bertune's own columns: as many rows as it
        holds; none for a row to leave out.
    left_out: Why rows are left out.
    columns: Names of the columns that `convert` gives.
    """

    name: str
    kind: Kind
    sets: str
    is_file: Callable[[Sample], bool] | None = None
    open: Callable[[Sample], Rows] | None = None
    is_row: Callable[[Mapping[str, object]], bool] | None = None
    convert: Convert | None = None
    left_out: str = ""
    columns: tuple[str, ...] = field(default=())


def converted(rows: Rows, form: Format, note: Callable[[int], None], *, labelled: bool) -> Rows:
    """A table whose rows are converted. note: Is given the number of rows left out, once all are read."""
    convert = form.convert
    if convert is None:
        raise ValueError(f"{form.name} converts no rows")
    by_line = rows.where(1).rpartition(" ")[0].rpartition(" ")[2]

    def read() -> Iterator[Row]:
        left_out, problems = 0, Problems()
        for row in rows:
            try:
                made = list(convert(row.values, labelled))
            except InputError as error:
                problems.add(f"{rows.where(row)}: {error}")
                continue
            left_out += not made
            if not problems:
                yield from (Row(row.line, values) for values in made)
        problems.raise_if_any()
        if left_out:
            note(left_out)

    return Table(rows.path, list(form.columns), read, unit=by_line)


def single(form: Format, sample: Sample, read: Callable[[], Iterator[Row]]) -> Table:
    """The rows of a file that a format reads by itself."""
    return Table(sample.path, list(form.columns), read)
