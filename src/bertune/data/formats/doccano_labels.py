"""Doccano's classified texts: `{"id", "text" or "data", "label": ["pos"]}`."""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format


def _is_row(first: Mapping[str, object]) -> bool:
    label = first.get("label")
    named = isinstance(label, list) and all(isinstance(name, str) for name in label)
    return named and isinstance(first.get("text", first.get("data")), str) and set(first) >= {"id"}


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:  # noqa: ARG001
    label = row.get("label")
    if isinstance(label, list) and len(label) == 1:
        label = label[0]
    yield {"text": row.get("text", row.get("data")), "label": label}


FORMAT = Format(
    "doccano's labels", "labels", "doccano (JSONL of text classification)",
    is_row=_is_row, convert=_convert, columns=("text", "label"),
)  # fmt: skip
