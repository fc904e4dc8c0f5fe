"""Which row of a table an example was made from, and what becomes of rows that cannot be read.

Tasks read tables through `data.tables.open_table` and give examples. Whoever streams those examples and wants the rows
as well enters a `RowTap`: every table that is opened inside it reports the row it gives at the moment.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bertune.data.rows import Row
from bertune.errors import tolerating

if TYPE_CHECKING:
    from bertune.data.tables import Rows


@dataclass
class RowTap:
    """Observes the rows of one file while its examples are read.

    skip_bad: leave out rows that cannot be read, instead of refusing the file.
    report: takes the message and line of every row that is left out, once a row.
    row: the row that was given last; None before the first, and for files that are no tables.
    """

    skip_bad: bool
    report: Callable[[str, int], None]
    row: Row | None = None
    _bad: set[int] = field(default_factory=set)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Inside, tables that are opened and rows that are read are observed."""
        token = _active.set(self)
        try:
            with tolerating(self._note if self.skip_bad else None):
                yield
        finally:
            _active.reset(token)

    @property
    def values(self) -> Mapping[str, object]:
        """Values of the last row; none without one."""
        return {} if self.row is None else self.row.values

    def is_bad(self, row: Row | None) -> bool:
        """Whether something is wrong with a row."""
        return row is not None and row.line in self._bad

    def _note(self, message: str, line: int) -> None:
        if line not in self._bad:
            self._bad.add(line)
            self.report(message, line)


_active: ContextVar[RowTap | None] = ContextVar("bertune_row_tap", default=None)


def observed(rows: "Rows") -> "Rows":
    """The same rows, reported to the tap that is entered, if there is one; without those known to be bad."""
    tap = _active.get()
    return rows if tap is None else _Observed(rows, tap)


@dataclass(frozen=True)
class _Observed:
    """Rows on their way past a tap."""

    _rows: "Rows"
    _tap: RowTap

    @property
    def path(self) -> Path:
        return self._rows.path

    @property
    def columns(self) -> list[str]:
        return self._rows.columns

    @property
    def typed(self) -> bool:
        """Whether the file tells numbers from texts."""
        return bool(getattr(self._rows, "typed", True))

    def where(self, row: Row | int, column: str | None = None) -> str:
        return self._rows.where(row, column)

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            if not self._tap.is_bad(row):
                self._tap.row = row
                yield row
