"""What the answers of a file of questions are: places, letters, names of choices or their texts; one form a file."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.errors import InputError

logger = logging.getLogger(__name__)

Place = Callable[[str, Sequence[str], Sequence[str]], int | None]
"""An answer, the choices' names and their texts → the place of the right one, or None."""


@dataclass(frozen=True)
class AnswerForm:
    """A way to say which choice is right."""

    name: str
    place: Place


def _named(answer: str, names: Sequence[str], texts: Sequence[str]) -> int | None:  # noqa: ARG001
    return names.index(answer) if answer in names else None


def _from(first: int) -> Place:
    def place(answer: str, names: Sequence[str], texts: Sequence[str]) -> int | None:  # noqa: ARG001
        number = answer.removesuffix(".0")
        if not number.isdecimal():
            return None
        return int(number) - first if 0 <= int(number) - first < len(texts) else None

    return place


def _letter(answer: str, names: Sequence[str], texts: Sequence[str]) -> int | None:  # noqa: ARG001
    letter = answer.strip("().:").upper()
    if len(letter) != 1 or not "A" <= letter <= "Z":
        return None
    place = ord(letter) - ord("A")
    return place if place < len(texts) else None


def _text(answer: str, names: Sequence[str], texts: Sequence[str]) -> int | None:  # noqa: ARG001
    stripped = [text.strip() for text in texts]
    return stripped.index(answer) if stripped.count(answer) == 1 else None


NAMED = AnswerForm("the choices' own labels", _named)
FROM_0 = AnswerForm("places from 0", _from(0))
FROM_1 = AnswerForm("places from 1", _from(1))
LETTER = AnswerForm("letters from A", _letter)
TEXT = AnswerForm("the choices' texts", _text)
FORMS = (NAMED, FROM_0, LETTER, TEXT, FROM_1)
"""In the order in which they are preferred where several fit a whole file."""


class AnswerFormDetector:
    """Finds the form that fits every answer of a file."""

    def __init__(self) -> None:
        self._fits = dict.fromkeys(FORMS, 0)
        self._answers = 0
        self._texts = True
        self._different: set[str] = set()

    def see(self, answer: object, names: Sequence[str], texts: Sequence[str]) -> None:
        """One more question. An answer that is missing decides nothing."""
        text = answer_text(answer)
        if not text:
            return
        self._answers += 1
        self._texts &= isinstance(answer, str)
        if len(self._different) < 3:
            self._different.add(text)
        for form in FORMS:
            self._fits[form] += form.place(text, names, texts) is not None

    def form(self, path: Path, *, typed: bool) -> AnswerForm:
        """The form that fits all answers; the one that fits most where none does, so that the others are reported.

        typed: Whether the file tells texts from numbers: there, "1" in quotes is rather a text than a place.
        """
        whole = [form for form in FORMS if self._fits[form] == self._answers]
        if len(self._different) < 2 and FROM_1 in whole:
            whole.remove(FROM_1)
        if typed and self._texts and TEXT in whole:
            return TEXT
        chosen = whole[0] if whole else max(FORMS[:-1], key=lambda form: self._fits[form])
        if chosen is FROM_0 and TEXT in whole:
            logger.warning(
                "%s: answers are read as %s, though each of them is the text of a choice, too; write letters (A, B, …) "
                "if texts are meant", path, chosen.name,
            )  # fmt: skip
        else:
            logger.info("%s: answers are read as %s", path, chosen.name)
        return chosen


def answer_text(answer: object) -> str:
    """An answer as text; empty where it is missing."""
    if answer is None or isinstance(answer, bool):
        return ""
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    return str(answer).strip()


def place_of(answer: object, names: Sequence[str], texts: Sequence[str], forms: Iterable[AnswerForm]) -> int:
    """The place of the right choice.

    Raises:
        InputError: the answer is missing, or names no choice.
    """
    text = answer_text(answer)
    if not text:
        raise InputError("the answer is missing (answer, label, answerKey, gold)")
    used = tuple(forms)
    found = next((place for form in used if (place := form.place(text, names, texts)) is not None), None)
    if found is None:
        last = chr(ord("A") + len(texts) - 1)
        here = f" (here: {used[0].name})" if len(used) == 1 else ""
        raise InputError(
            f"the answer is {answer!r}; expected 0 to {len(texts) - 1}, A to {last}, or a choice's text, in "
            f"one form in the whole file{here}"
        )
    return found
