"""Tables for people, on any console. Whatever a cell holds is shown as it is: rich's markup has no meaning in it."""

import re
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table
from rich.text import Text

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


def table_of(title: str, rows: Mapping[str, object]) -> Table:
    """A two-column table of names and values; floats to four decimals."""
    cells = ((name, f"{value:.4f}" if isinstance(value, float) else value) for name, value in rows.items())
    return plain_table(title, ("", ""), cells, show_header=False)
