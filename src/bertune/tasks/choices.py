"""Questions with choices, read from the shapes of SWAG, RACE, CommonsenseQA and ARC, or bertune's own."""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.data.columns import listed
from bertune.data.formats.registry import open_any
from bertune.data.rows import RowFile
from bertune.data.tables import Rows
from bertune.errors import InputError, Problems
from bertune.tasks.choice_answers import AnswerForm, AnswerFormDetector, answer_text, place_of
from bertune.tasks.options import ChoiceOptions
from bertune.tasks.parts import ExampleParts
from bertune.tasks.reading import LeftOut, log_columns


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


logger = logging.getLogger(__name__)

_BLANK = re.compile(r"(?<![0-9A-Za-z\u00c0-\u024f_$/\\@#.-])(?:_+|＿+)(?![0-9A-Za-z\u00c0-\u024f_/\\@#(-])")
"""A blank: a run of underscores that is a token of its own, not a part of a name or a path."""
_CONTEXT = ("context", "article", "passage", "sent1", "startphrase")
_QUESTION = ("question", "sent2")
_CHOICES = ("choices", "options", "endings", "answers")
_ANSWER = ("answer", "label", "answerKey", "gold")


def read_choices(path: Path, options: ChoiceOptions, *, labelled: bool) -> Iterator[ChoiceExample]:
    """Questions of a file; all problems are reported at once.

    Args:
        path: a file in any form of `data.formats`, or rows with a context (context, article, sent1), a question
            (question, sent2), either or both; with choices in one list (choices, options) or a column each (ending0,
            ending1, …; choice0, …; option0, …); and with the answer (answer, label, answerKey): a place from 0 or 1, a
            letter from A, or the choice's own text, in one form in the whole file. A row may also hold several
            questions about its article, as RACE's files do (questions, options, answers).
        options: how many choices each question must have, and how the file is written.
        labelled: whether answers are needed.

    Raises:
        InputError: rows without questions or choices, choices of the wrong number, answers that are no choice.
    """
    file = open_any(path, options, "choices", labelled=labelled)
    columns = _columns_of_choices(file)
    forms = (_answer_form(file, columns),) if labelled else ()
    if labelled:
        parts = {"context": _CONTEXT, "question": _QUESTION, "choices": _CHOICES, "answer": _ANSWER}
        taken = {part: next((name for name in names if name in file.columns), None) for part, names in parts.items()}
        log_columns(file, taken | {f"choice {i}": name for i, name in enumerate(columns, 1)})
    problems, left_out = Problems(), LeftOut("without an answer")
    for row in file:
        for record in _questions(row.values):
            if labelled and options.drop_unlabelled and not answer_text(_answer(record)):
                left_out.add(row.line)
                continue
            try:
                example = from_record(
                    record, columns, options.choices, place=row.line, forms=forms, blank=options.blank
                )
            except InputError as error:
                problems.add(f"{file.where(row)}: {error}")
                continue
            if not problems:
                yield example
    problems.raise_if_any()
    left_out.log(path)


def _answer_form(file: Rows, columns: list[str]) -> AnswerForm:
    """The form of all answers of a file, which is read for it."""
    detector = AnswerFormDetector()
    for row in file:
        for record in _questions(row.values):
            try:
                names, texts = _choice_texts(record, columns)
            except InputError:
                continue  # reported when the row is read
            detector.see(_answer(record), names, texts)
    return detector.form(file.path, typed=not isinstance(file, RowFile) or file.typed)


def _answer(record: Mapping[str, object]) -> object:
    return next((record[name] for name in _ANSWER if record.get(name) not in (None, "")), None)


def _columns_of_choices(file: Rows) -> list[str]:
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
    record: Mapping[str, object],
    columns: list[str],
    choices: int | None,
    *,
    place: int = 0,
    forms: Sequence[AnswerForm] = (),
    blank: str | None = None,
) -> ChoiceExample:
    """One question. columns: those that hold a choice each, if any.  forms: of answers; none: answers are not read.
    blank: what marks a blank to fill; None: a lone run of underscores.

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
    answer = place_of(_answer(record), names, texts, forms) if forms else None
    first, second = (context, question) if context else (question, "")
    first, seconds = _filled(first, second, texts, blank)
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


def _filled(first: str, second: str, texts: Sequence[str], blank: str | None) -> tuple[str, tuple[str, ...]]:
    """What the encoder reads of every choice: the question with its blank filled, or with the choice behind it."""
    question = second or first
    at = question.find(blank) if blank else -1
    span = (at, at + len(blank)) if blank and at >= 0 else None
    if blank is None and (found := _BLANK.search(question)):
        span = found.span()
    if span is None:
        return first, tuple(f"{second} {text}".strip() for text in texts)
    before, after = question[: span[0]], question[span[1] :]
    if second:
        return first, tuple(before + text + after for text in texts)
    # Without a context what precedes the blank serves as one; a question that begins with its blank stays as it is.
    return (before.strip(), tuple(text + after for text in texts)) if before.strip() else (
        first, tuple(text + after for text in texts)
    )  # fmt: skip
