"""A column for every choice under its letter: `question, A, B, C, D, answer`; or `"options": {"A": …, "B": …}`.

MMLU's tables have these columns without a header.
"""

from collections.abc import Iterator, Mapping

from bertune.data.formats.format import Format
from bertune.errors import InputError

_LETTERS = "ABCDEFGH"
_ANSWERS = ("answer_idx", "answerKey", "answer", "label", "gold", "correct", "Answer", "Correct")
_QUESTIONS = ("question", "Question", "prompt", "stem", "sent2")
_CONTEXTS = ("context", "article", "passage", "sent1", "Passage")


def _letters(row: Mapping[str, object]) -> list[str]:
    """The names of the columns, in order: A, B, …; a, b, …; or with a stem, as in option_a."""
    for stem in ("", "option", "option_", "choice_", "choice", "ending_", "Option ", "Choice "):
        for letters in (_LETTERS, _LETTERS.lower()):
            found = [stem + letter for letter in letters if stem + letter in row]
            if len(found) > 1 and found[0] == stem + letters[0]:
                return found
    return []


def _named(row: Mapping[str, object]) -> Mapping[str, object]:
    """The row with names, where its columns are a question, choices and a letter without a header; else as it is."""
    numbers = [str(index) for index in range(len(row))]
    choices = _LETTERS[: max(0, len(row) - 2)]
    if len(choices) < 2 or [*row] != numbers or str(row[numbers[-1]]).strip() not in {*choices}:
        return row
    return dict(zip(["question", *choices, "answer"], row.values(), strict=False))


def _is_row(first: Mapping[str, object]) -> bool:
    first = _named(first)
    options = first.get("options")
    lettered = isinstance(options, dict) and set("AB") <= set(options)
    return lettered or bool(_letters(first))


def _convert(row: Mapping[str, object], labelled: bool) -> Iterator[dict[str, object]]:
    row = _named(row)
    options = row.get("options")
    if isinstance(options, dict):
        texts = {str(name): text for name, text in options.items()}
    else:
        texts = {name[-1].upper(): row[name] for name in _letters(row)}
    # Questions of a file may have fewer choices than its widest; the last ones are empty then.
    kept = {name: text for name, text in texts.items() if text not in (None, "")}
    if list(kept) != list(texts)[: len(kept)]:
        raise InputError(f"the choices are {texts!r}; only the last ones may be empty")
    answer = next((row[name] for name in _ANSWERS if row.get(name) not in (None, "")), None)
    yield {
        "context": _first(row, _CONTEXTS),
        "question": _first(row, _QUESTIONS),
        "choices": {"text": [str(text) for text in kept.values()], "label": list(kept)},
        "answer": answer if labelled else None,
    }


def _first(row: Mapping[str, object], names: tuple[str, ...]) -> str:
    return str(next((row[name] for name in names if row.get(name)), ""))


FORMAT = Format(
    "choices under letters", "choices", "MMLU, CMMLU, C-Eval, MedQA, MathQA-like tables; A to H",
    is_row=_is_row, convert=_convert, columns=("context", "question", "choices", "answer"),
)  # fmt: skip
