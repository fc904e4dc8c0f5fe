"""Tables for people, on any console. Whatever a cell holds is shown as it is: rich's markup has no meaning in it."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from rich.table import Table
from rich.text import Text

logger = logging.getLogger(__name__)

FigureT = TypeVar("FigureT")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: object) -> Text:
    """Text without markup; what would steer a terminal, and half a surrogate pair, is shown as an escape."""
    if isinstance(text, Text):
        return text
    return Text(_CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text)))


def plain_table(
    title: str,
    heads: Sequence[str],
    rows: Iterable[Iterable[object]],
    *,
    show_header: bool = True,
    show_lines: bool = False,
) -> Table:
    """A table whose title, heads and cells are text, whatever brackets they hold.

    Args:
        title: above the table.
        heads: of the columns.
        rows: their cells; one that is a `Text` keeps its style.
        show_header: whether the heads are shown.
        show_lines: whether rows are divided by lines, and long words folded.
    """
    table = Table(title=plain(title), title_justify="left", show_header=show_header, show_lines=show_lines)
    for head in heads:
        table.add_column(plain(head), overflow="fold" if show_lines else "ellipsis")
    for row in rows:
        table.add_row(*map(plain, row))
    return table


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


def table_of(title: str, rows: Mapping[str, object]) -> Table:
    """A two-column table of names and values; floats to four decimals."""
    cells = ((name, f"{value:.4f}" if isinstance(value, float) else value) for name, value in rows.items())
    return plain_table(title, ("", ""), cells, show_header=False)
