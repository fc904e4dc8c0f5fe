"""Prodigy's texts with a label or options: `{"text", "label", "answer"}`, `{"text", "options", "accept", "answer"}`.

Only rows that were accepted are labelled: of a rejected one it is known which label is wrong, not which is right.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.data.rows import Row
from bertune.data.tables import Rows, Table

logger = logging.getLogger(__name__)

_LOOKED_AT = 1000

ANSWERS = ("accept", "reject", "ignore")
"""What an annotator may have said of a row."""


def is_prodigy(first: Mapping[str, object]) -> bool:
    """Whether a row was annotated with Prodigy."""
    answered = first.get("answer") in ANSWERS
    return isinstance(first.get("text"), str) and answered and "choices" not in first


def _is_row(first: Mapping[str, object]) -> bool:
    return is_prodigy(first) and ("label" in first or "accept" in first)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    if labelled and row.get("answer") != "accept":
        return
    accepted = row.get("accept")
    label: object = row.get("label")
    if isinstance(accepted, list):
        label = accepted[0] if len(accepted) == 1 else accepted
    yield {"text": row.get("text"), "label": label}


def accepted(rows: Rows) -> Rows:
    """A table without the rows whose `answer` is reject or ignore, where that column holds nothing but such answers."""
    if "answer" not in rows.columns:
        return rows
    answers = {row.values.get("answer") for row in itertools.islice(iter(rows), _LOOKED_AT)} - {None, ""}
    if not answers or not answers <= set(ANSWERS):
        return rows

    def read() -> Iterator[Row]:
        left_out = 0
        for row in rows:
            if row.values.get("answer") in ("reject", "ignore"):
                left_out += 1
            else:
                yield row
        if left_out:
            logger.info("%s: %d rows left out: their answer is reject or ignore", rows.path, left_out)

    unit = rows.where(1).rpartition(" ")[0].rpartition(" ")[2]
    return Table(rows.path, rows.columns, read, unit=unit)


FORMAT = Format(
    "Prodigy's labels", "labels", "Prodigy (textcat.manual, textcat.teach, choice)",
    is_row=_is_row, convert=_convert, left_out="their answer is reject or ignore", columns=("text", "label"),
)  # fmt: skip
