"""CommonsenseQA, OpenBookQA and ARC: `{"question": {"stem", "choices": [{"label", "text"}]}, "answerKey"}`."""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.errors import InputError


def _is_row(first: Mapping[str, object]) -> bool:
    question = first.get("question")
    return isinstance(question, dict) and "stem" in question and isinstance(question.get("choices"), list)


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    question = row.get("question")
    choices = question.get("choices") if isinstance(question, dict) else None
    if not isinstance(question, dict) or not isinstance(choices, list):
        raise InputError('expected {"question": {"stem", "choices": [{"label", "text"}]}, "answerKey"}')
    if not all(isinstance(one, dict) and isinstance(one.get("text"), str) for one in choices):
        raise InputError(f"the choices are {choices!r}; expected objects with label and text")
    names = [str(one.get("label")) for one in choices]
    answer = row.get("answerKey") if labelled else None
    yield {
        "question": question["stem"],
        "choices": {"text": [one["text"] for one in choices], "label": names},
        "answer": answer,
    }


FORMAT = Format(
    "CommonsenseQA's rows", "choices", "CommonsenseQA, OpenBookQA, ARC, QASC",
    is_row=_is_row, convert=_convert, columns=("question", "choices", "answer"),
)  # fmt: skip
