"""Parts of a report's page as HTML text: style, tables, sections. Every text is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bertune.report import charts

STYLE = f"""{charts.STYLE}
body{{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:60rem;margin:2rem auto;padding:0 1rem}}
h1{{font-size:1.5rem;overflow-wrap:anywhere}}h2{{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}}
table{{border-collapse:collapse;width:100%;margin:.5rem 0}}th,td{{text-align:left;padding:.2rem .6rem;
border-bottom:1px solid var(--line);vertical-align:top}}.long{{overflow-wrap:anywhere}}
@media screen and (max-width:36rem){{th,td{{overflow-wrap:anywhere}}}}
td.n,th.n{{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}}
p{{overflow-wrap:anywhere}}.verdict{{font-size:1.2rem}}.note{{color:var(--soft)}}.charts{{display:grid;gap:1rem;
grid-template-columns:repeat(auto-fill,minmax(min(20rem,100%),1fr))}}.charts>*{{max-width:30rem}}svg{{width:100%;height:auto}}
@media print{{@page{{margin:14mm}}body{{max-width:none;margin:0;padding:0;font-size:10pt;print-color-adjust:exact;
-webkit-print-color-adjust:exact}}h2,h3{{break-after:avoid}}p{{orphans:3;widows:3}}tr,svg{{break-inside:avoid}}
thead{{display:table-header-group}}.note,.verdict{{break-inside:avoid;break-after:avoid}}
section>.charts:last-child{{break-before:avoid}}}}
"""


_LONGEST_WHOLE = 16
"""Characters of the longest words that a table's cell keeps in one piece.

If all words could be broken anywhere, a browser would give nearly the whole width to the longest texts of a table, and
labels beside them would stand on three lines.
"""


def _cell(cell: Any) -> str:
    if isinstance(cell, float):
        return f'<td class="n">{cell:.4f}</td>'
    if isinstance(cell, int):
        return f'<td class="n">{cell}</td>'
    text = str(cell)
    return f"<td{' class=long' if _is_long(text) else ''}>{escape(text)}</td>"


def _is_long(text: str) -> bool:
    return max(map(len, text.split()), default=0) > _LONGEST_WHOLE


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; cells that are numbers are aligned; everything is escaped."""
    body = []
    numeric: set[int] = set()
    for row in rows:
        numeric |= {at for at, cell in enumerate(row) if isinstance(cell, int | float)}
        body.append(f"<tr>{''.join(map(_cell, row))}</tr>")
    head = "".join(
        f'<th scope="col"{" class=n" if at in numeric else " class=long" if _is_long(one) else ""}>{escape(one)}</th>'
        for at, one in enumerate(heads)
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>" if body else ""


def section(title: str, *inside: str) -> str:
    """A heading and what stands under it; nothing where there is nothing."""
    content = "".join(inside)
    return f"<section><h2>{escape(title)}</h2>{content}</section>" if content else ""


def side_by_side(*svgs: str) -> str:
    """Charts beside one another, as many as the page is wide."""
    shown = [f"<div>{svg}</div>" for svg in svgs if svg]
    return f'<div class="charts">{"".join(shown)}</div>' if shown else ""


def note(text: str) -> str:
    """A remark in softer ink."""
    return f'<p class="note">{escape(text)}</p>'
