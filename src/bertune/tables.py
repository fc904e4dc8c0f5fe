"""Tables for people, on any console. Whatever a cell holds is shown as it is: rich's markup has no meaning in it.

A table is never cut: one that is wider than the console (80 columns where there is no terminal) is divided into several
below one another, each of which begins with the columns that say what a row is about; long texts take several lines.
"""

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

logger = logging.getLogger(__name__)

FigureT = TypeVar("FigureT")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LONG = 20
"""Characters above which a cell is a text that may continue in the next line."""
_WORD = 32
"""Characters above which a single word, such as a path, is broken; a metric's name is not."""
_BORDER = 3
"""Characters that a column takes besides its cells."""


def plain(text: object) -> Text:
    """Text without markup; what would steer a terminal, and half a surrogate pair, is shown as an escape."""
    if isinstance(text, Text):
        return text
    return Text(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text)))


@dataclass(frozen=True)
class PlainTable:
    """A table of plain text that fits the console it is printed on.

    title: above the table, in lines of its own.
    heads: of the columns; where all are empty no heads are shown.
    rows: cells, as many as heads or fewer.
    show_lines: whether rows are divided by lines.
    keys: columns at the beginning that say what a row is about; where the table is divided, every part has them.
    """

    title: Text
    heads: tuple[Text, ...]
    rows: tuple[tuple[Text, ...], ...]
    show_lines: bool = False
    keys: int = 1

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text | Table]:
        """The title, and one table or several."""
        if self.title:
            yield self.title
        longest = [self._longest(index) for index in range(len(self.heads))]
        least = [max(min(_LONG, line), min(_WORD, word)) for line, word in longest]
        for columns in _groups(least, options.max_width, self.keys):
            yield self._part(columns, least)

    def _longest(self, index: int) -> tuple[int, int]:
        """Characters of a column's longest line, and of its longest word."""
        cells = [self.heads[index], *(row[index] for row in self.rows if index < len(row))]
        lines = [line for cell in cells for line in cell.split()]
        words = [cell_len(word) for line in lines for word in line.plain.split()]
        return max((line.cell_len for line in lines), default=0), max(words, default=0)

    def _part(self, columns: Sequence[int], least: Sequence[int]) -> Table:
        table = Table(show_header=any(self.heads), show_lines=self.show_lines)
        for index in columns:
            table.add_column(
                self.heads[index],
                overflow="fold",
                no_wrap=least[index] >= self._longest(index)[0],
                min_width=least[index],
            )
        for row in self.rows:
            table.add_row(*(row[index] if index < len(row) else Text() for index in columns))
        return table


def _groups(widths: Sequence[int], console: int, keys: int) -> list[list[int]]:
    """Columns that fit beside one another, group after group; every group begins with the keys."""
    first = sum(width + _BORDER for width in widths[:keys]) + 1
    groups, used = [list(range(min(keys, len(widths))))], first
    for index in range(keys, len(widths)):
        if used + widths[index] + _BORDER > console and len(groups[-1]) > keys:
            groups.append(list(range(keys)))
            used = first
        groups[-1].append(index)
        used += widths[index] + _BORDER
    return groups


def plain_table(
    title: str, heads: Sequence[str], rows: Iterable[Iterable[object]], *, show_lines: bool = False, keys: int = 1
) -> PlainTable:
    """A table whose title, heads and cells are text, whatever brackets they hold.

    Args:
        title: above the table.
        heads: of the columns; all empty: none are shown.
        rows: their cells; one that is a `Text` keeps its style.
        show_lines: whether rows are divided by lines.
        keys: columns at the beginning that every part of a table that is too wide has.
    """
    cells = tuple(tuple(map(plain, row)) for row in rows)
    return PlainTable(plain(title), tuple(map(plain, heads)), cells, show_lines, keys)


MOST_CLASS_FIGURES = 60
"""Figures of single classes (`f1/PER`) that a table for people has; of more they are left to the files."""


def main_figures(figures: Mapping[str, FigureT]) -> dict[str, FigureT]:
    """Figures by name, without those of single classes where there are very many."""
    main = {name: value for name, value in figures.items() if "/" not in name}
    return main if len(figures) - len(main) > MOST_CLASS_FIGURES else dict(figures)


def for_people(figures: Mapping[str, FigureT]) -> dict[str, FigureT]:
    """`main_figures`, and a line of the log on those that are left out."""
    main = main_figures(figures)
    if left_out := len(figures) - len(main):
        logger.info("%d figures of single classes are not in this table; metrics.json and --json have them", left_out)
    return main


def table_of(title: str, rows: Mapping[str, object]) -> PlainTable:
    """A two-column table of names and values; floats to four decimals."""
    cells = ((name, f"{value:.4f}" if isinstance(value, float) else value) for name, value in rows.items())
    return plain_table(title, ("", ""), cells)
