"""WinoGrande's rows: `{"sentence": "… _ …", "option1", "option2", "answer": "1"}`, where the answer counts from 1."""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.errors import InputError


def _is_row(first: Mapping[str, object]) -> bool:
    return {"sentence", "option1", "option2"} <= set(first)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    answer = str(row.get("answer", "")).strip()
    if labelled and answer not in ("1", "2"):
        raise InputError(f"the answer is {row.get('answer')!r}; expected 1 or 2")
    yield {
        "question": row.get("sentence"),
        "choices": [row.get("option1"), row.get("option2")],
        "answer": int(answer) - 1 if labelled else None,
    }


FORMAT = Format(
    "WinoGrande's rows", "choices", "WinoGrande; WSC-like sets with option1, option2",
    is_row=_is_row, convert=_convert, columns=("question", "choices", "answer"),
)  # fmt: skip
