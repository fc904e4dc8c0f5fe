"""Questions with choices, read from the shapes of SWAG, RACE, CommonsenseQA and ARC, or bertune's own."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bertune.data.columns import listed
from bertune.data.rows import RowFile, open_rows
from bertune.errors import InputError, Problems
from bertune.tasks.parts import ExampleParts


@dataclass(frozen=True, slots=True)
class ChoiceExample:
    """A context, and texts of which one goes on best.

    firsts, seconds: what the encoder reads of every choice, as a pair.  choices: their own texts.
    answer: place of the right one, from 0; None where it is unknown.  place: line of the file.
    """

    first: str
    seconds: tuple[str, ...]
    choices: tuple[str, ...]
    answer: int | None = None
    place: int = 0

    def parts(self) -> ExampleParts:
        """For a look at the data: the context, all choices, and the place of the right one."""
        texts = {"context": self.first, "choices": "\n".join(self.seconds)}
        right = None if self.answer is None else self.choices[self.answer]
        labels = () if self.answer is None else (f"choice {self.answer}",)
        return ExampleParts(texts, labels, None, right, self.place)


_CONTEXT = ("context", "article", "passage", "sent1", "startphrase")
_QUESTION = ("question", "sent2")
_CHOICES = ("choices", "options", "endings", "answers")
_ANSWER = ("answer", "label", "answerKey", "gold")


def read_choices(path: Path, choices: int | None, *, labelled: bool) -> Iterator[ChoiceExample]:
    """Questions of a file; what is wrong is told all at once.

    Args:
        path: rows with a context (context, article, sent1), a question (question, sent2), either or both; with choices
            in one list (choices, options) or a column each (ending0, ending1, …; choice0, …; option0, …); and with the
            answer (answer, label, answerKey): a place from 0, a letter from A, or the choice's own text. A row may also
            hold several questions about its article, as RACE's files do (questions, options, answers).
        choices: how many each question must have; None: at least two.
        labelled: whether answers are needed.

    Raises:
        InputError: rows without questions or choices, choices of the wrong number, answers that are no choice.
    """
    file = open_rows(path)
    columns = _columns_of_choices(file)
    problems = Problems()
    for row in file:
        for record in _questions(row.values):
            try:
                example = from_record(record, columns, choices, place=row.line, labelled=labelled)
            except InputError as error:
                problems.add(f"{file.where(row)}: {error}")
                continue
            if not problems:
                yield example
    problems.raise_if_any()


def _columns_of_choices(file: RowFile) -> list[str]:
    """The columns that hold a choice each, in order; none where a list does."""
    if any(name in file.columns for name in (*_CHOICES, "questions")):
        return []
    for stem in ("ending", "choice", "option"):
        for first in (0, 1):
            found: list[str] = []
            while any(name in file.columns for name in (f"{stem}{first + len(found)}", f"{stem}_{first + len(found)}")):
                number = first + len(found)
                found.append(f"{stem}{number}" if f"{stem}{number}" in file.columns else f"{stem}_{number}")
            if len(found) > 1:
                return found
    raise InputError(
        f"{file.path}: no choices: neither a list ({listed(_CHOICES)}) nor columns ending0, ending1, …; "
        f"it has: {listed(file.columns)}"
    )


def _questions(values: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    questions, options, answers = (values.get(name) for name in ("questions", "options", "answers"))
    if not isinstance(questions, list) or not isinstance(options, list):
        yield values
        return
    given = answers if isinstance(answers, list) else [None] * len(questions)
    for i, question in enumerate(questions):
        yield {
            "article": values.get("article"),
            "question": question,
            "options": options[i] if i < len(options) else None,
            "answer": given[i] if i < len(given) else None,
        }


def from_record(
    record: Mapping[str, object], columns: list[str], choices: int | None, *, place: int, labelled: bool
) -> ChoiceExample:
    """One question. columns: those that hold a choice each, if any.

    Raises:
        InputError: no question, choices of the wrong kind or number, an answer that is none of them.
    """
    context, question = (_first_text(record, names) for names in (_CONTEXT, _QUESTION))
    if not context and not question:
        raise InputError(f"neither a context ({listed(_CONTEXT)}) nor a question ({listed(_QUESTION)})")
    names, texts = _choice_texts(record, columns)
    if len(texts) < 2 or (choices is not None and len(texts) != choices):
        expected = "at least 2" if choices is None else f"{choices} (--choices)"
        raise InputError(f"{len(texts)} choices found, expected {expected}")
    answer = None
    if labelled:
        given = next((record[name] for name in _ANSWER if record.get(name) is not None), None)
        answer = _place(given, names, texts)
    first, second = (context, question) if context else (question, "")
    if "_" in second:
        seconds = tuple(second.replace("_", text, 1) for text in texts)
    else:
        seconds = tuple(f"{second} {text}".strip() for text in texts)
    return ChoiceExample(first, seconds, texts, answer, place)


def _first_text(record: Mapping[str, object], names: tuple[str, ...]) -> str:
    value = next((record[name] for name in names if isinstance(record.get(name), str)), "")
    return str(value)


def _choice_texts(record: Mapping[str, object], columns: list[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The choices' names, if they have any, and texts."""
    value: object = [record.get(name) for name in columns]
    if not columns:
        value = next((record[name] for name in _CHOICES if record.get(name) is not None), None)
    names: object = ()
    if isinstance(value, Mapping):  # CommonsenseQA, ARC
        named: Mapping[object, object] = value
        value, names = named.get("text"), named.get("label")
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise InputError(f"the choices are {value!r}; expected a list of texts, none of them empty")
    labels = tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()
    return labels, tuple(value)


def _place(given: object, names: tuple[str, ...], texts: tuple[str, ...]) -> int:
    """The answer's place among the choices."""
    if given is None or given == "":
        raise InputError(f"the answer is missing ({listed(_ANSWER)})")
    told = str(given).strip()
    if told in names:
        return names.index(told)
    if isinstance(given, str) and texts.count(told) == 1:
        return texts.index(told)
    if told.isdecimal() and not isinstance(given, bool):
        place = int(told)
    elif len(told) == 1 and "A" <= told.upper() <= "Z":
        place = ord(told.upper()) - ord("A")
    else:
        place = -1
    if not 0 <= place < len(texts):
        last = chr(ord("A") + len(texts) - 1)
        raise InputError(f"the answer is {given!r}; expected 0 to {len(texts) - 1}, A to {last}, or a choice's text")
    return place
