"""Prodigy's spans: `{"text", "tokens": [{"text", "start", …}], "spans": [{"start", "end", "label"}], "answer"}`.

A row without `spans` was looked at and has no entity. Rejected and ignored rows are no gold.
"""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.data.formats.prodigy_labels import is_prodigy


def _is_row(first: Mapping[str, object]) -> bool:
    tokens = first.get("tokens")
    objects = isinstance(tokens, list) and bool(tokens) and isinstance(tokens[0], dict) and "text" in tokens[0]
    return (objects and isinstance(first.get("text"), str)) or is_prodigy(first)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    if labelled and row.get("answer", "accept") != "accept":
        return
    spans = row.get("spans")
    found = [
        {name: span.get(name) for name in ("start", "end", "label")} if isinstance(span, dict) else span
        for span in (spans if isinstance(spans, list) else [])
    ]
    yield {"text": row.get("text"), "entities": found}


FORMAT = Format(
    "Prodigy's spans", "tags", "Prodigy (ner.manual, ner.correct, ner.teach, spans.manual)",
    is_row=_is_row, convert=_convert, left_out="their answer is reject or ignore", columns=("text", "entities"),
)  # fmt: skip
