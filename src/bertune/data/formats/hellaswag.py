"""HellaSwag's rows: `{"ctx_a", "ctx_b", "ctx", "endings": […], "label"}`; an ending goes on from ctx_b."""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format


def _is_row(first: Mapping[str, object]) -> bool:
    return "endings" in first and isinstance(first.get("ctx", first.get("ctx_a")), str)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    start, end = row.get("ctx_a"), row.get("ctx_b")
    if not isinstance(start, str):
        start, end = row.get("ctx"), ""
    yield {
        "context": start,
        "question": end or "",
        "choices": row.get("endings"),
        "answer": row.get("label") if labelled else None,
    }


FORMAT = Format(
    "HellaSwag's rows", "choices", "HellaSwag",
    is_row=_is_row, convert=_convert, columns=("context", "question", "choices", "answer"),
)  # fmt: skip
