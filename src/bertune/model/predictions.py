"""Predictions that show themselves in notebooks."""

from collections.abc import Mapping
from html import escape
from typing import Any

SHOWN = 50
"""Predictions that a notebook shows."""
_LONGEST = 200


class Predictions(list[dict[str, Any]]):
    """Predictions in order: a list of JSON objects, as `pandas.DataFrame` takes it."""

    def _repr_html_(self) -> str:
        """For notebooks: a table of the first ones; texts are escaped."""
        columns = list(dict.fromkeys(name for one in self[:SHOWN] for name in one))
        head = "".join(f"<th>{escape(name)}</th>" for name in ("", *columns))
        rows = "".join(
            f"<tr><th>{number}</th>{''.join(f'<td>{_shown(one.get(name))}</td>' for name in columns)}</tr>"
            for number, one in enumerate(self[:SHOWN])
        )
        more = f"<p>{len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}"


def _shown(value: object) -> str:
    return escape(_text(value)[:_LONGEST])


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    return "" if value is None else str(value)
