"""Questions over contexts, read and checked.

SQuAD v1.1 and v2.0 JSON, and flat JSONL, CSV and Parquet with the columns of the Hugging Face data sets
(`id, title, context, question, answers{text[], answer_start[]}`). Characters are Unicode code points.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path

from bertune.data.columns import listed
from bertune.data.table_options import TableOptions
from bertune.data.tables import DEFAULT
from bertune.errors import InputError, Problems, counted
from bertune.files.json_files import parse_json
from bertune.tasks.parts import ExampleParts
from bertune.tasks.squad.records import Record, kind_of, read_records

NOT_FOUND = -1


@dataclass(frozen=True, slots=True)
class Answer:
    """One gold answer.

    start: its first character in the context; -1 where the context does not contain it (the report names those).
    """

    text: str
    start: int


@dataclass(frozen=True, slots=True)
class QuestionExample:
    """A question, the text that may answer it, and the gold answers (none when unanswerable or unlabelled)."""

    id: str
    question: str
    context: str
    answers: tuple[Answer, ...]
    is_impossible: bool
    title: str | None
    where: str

    def parts(self) -> ExampleParts:
        """For a look at the data: the same question about the same context has the same answers."""
        answerable = "unanswerable" if self.is_impossible else "answerable"
        texts = {"question": self.question, "context": self.context}
        answer = frozenset(answer.text for answer in self.answers)
        return ExampleParts(texts, (answerable,), None, (answerable, answer), self.where)


@dataclass(frozen=True, slots=True)
class Columns:
    """What a flat file calls its fields. Only question and context must be there to predict."""

    id: str = "id"
    question: str = "question"
    context: str = "context"
    answers: str = "answers"
    title: str = "title"


@dataclass(slots=True)
class ReadReport:
    """What was read and what was noticed on the way.

    mended: places of the answers whose `answer_start` was corrected.
    not_found: places and texts of the answers that stand nowhere in their context; their `start` is -1.
    unlabelled: places of the questions that were left out because a text or the answers are missing.
    skipped: what is wrong with the questions that were left out.
    """

    path: str
    questions: int = 0
    unanswerable: int = 0
    mended: list[str] = field(default_factory=list)
    not_found: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unlabelled: list[str] = field(default_factory=list)

    def lines(self, limit: int = 5) -> list[str]:
        """The report for people, one statement a line, at most `limit` names each."""
        head = f"{self.path}: {counted(self.questions, 'question')}"
        found = [head + (f", {self.unanswerable} of them unanswerable" if self.unanswerable else "")]
        for names, what in (
            (self.mended, "answers with a corrected answer_start"),
            (self.not_found, "answers found nowhere in their context, so not to be trained on"),
            (self.skipped, "questions left out (--skip-bad)"),
            (self.unlabelled, "questions left out, without a text or answers (--drop-unlabelled)"),
        ):
            if names:
                more = f"\n  … and {len(names) - limit} more" if len(names) > limit else ""
                found.append(f"{what}: {len(names)}" + "".join(f"\n  {name}" for name in names[:limit]) + more)
        return found


def read_questions(
    path: str | PathLike[str],
    *,
    labelled: bool,
    fix_offsets: bool = False,
    strict: bool = True,
    columns: Columns | None = None,
    skip_bad: bool = False,
    table: TableOptions = DEFAULT,
) -> tuple[list[QuestionExample], ReadReport]:
    """Every question of a file, in order.

    Args:
        path: `.json` (SQuAD), `.jsonl`, `.csv`, `.tsv`, also with `.gz`, or `.parquet`.
        labelled: gold answers are wanted and checked; otherwise `answers` and `is_impossible` are not looked at.
        fix_offsets: correct an `answer_start` that does not match, where the text stands exactly once in the context.
        strict: `False` takes wrong offsets, empty texts and a contradictory `is_impossible` as they are, as
            google-research/bert does.
        columns: names of a flat file's columns; SQuAD JSON has its own.
        skip_bad: leave out questions with something wrong, and name them in the report.
        table: how a flat file is written.

    Raises:
        InputError: every fault of the file at once: broken JSON, missing or wrong fields, duplicate ids, empty texts,
            an `answer_start` that points elsewhere.
    """
    path = Path(path)
    names = columns or Columns()
    problems, report = Problems(), ReadReport(str(path))
    examples: list[QuestionExample] = []
    places: dict[str, str] = {}
    needed = [names.question, names.context, *([names.answers] if labelled else [])]
    taken = {"question": names.question, "context": names.context, "answers": names.answers} if labelled else None
    for row, record in enumerate(read_records(path, needed, table, taken)):
        try:
            if isinstance(record, InputError):
                raise record
            if labelled and table.drop_unlabelled and _is_unlabelled(record, names):
                report.unlabelled.append(record.where)
                continue
            example = _example(record, names, row, strict)
            if labelled:
                example = _with_answers(example, record, names, strict)
                if strict:
                    example = _with_offsets(example, fix_offsets, report)
            if example.id in places:
                raise InputError(f"{example.where}: the id {example.id!r} is already used at {places[example.id]}")
        except InputError as error:
            if skip_bad and isinstance(record, Record):
                report.skipped.append(str(error))
            else:
                problems.add(str(error))
            continue
        places[example.id] = example.where
        examples.append(example)
    problems.raise_if_any()
    if not examples:
        raise InputError(f"{path}: no questions in it")
    report.questions = len(examples)
    report.unanswerable = sum(example.is_impossible for example in examples)
    return examples, report


def stream_questions(
    path: str | PathLike[str], columns: Columns | None = None, table: TableOptions = DEFAULT
) -> Iterator[QuestionExample]:
    """Questions to predict, one after the other, in constant memory (but for `.json`, which is parsed whole).

    The file is gone through once beforehand, so that its faults come all at once and before any work. Ids are not
    compared with each other: that would take memory for all of them.

    Raises:
        InputError: as `read_questions`.
    """
    path = Path(path)
    names = columns or Columns()
    problems, rows = Problems(), 0
    for record in read_records(path, [names.question, names.context], table):
        try:
            _unlabelled(record, names, rows)
        except InputError as error:
            problems.add(str(error))
        rows += 1
    problems.raise_if_any()
    if not rows:
        raise InputError(f"{path}: no questions in it")
    return (_unlabelled(record, names, row) for row, record in enumerate(read_records(path, table=table)))


def _is_unlabelled(record: Record, columns: Columns) -> bool:
    """Whether a record lacks its question, its context or its answers; one that is marked unanswerable has them."""
    names = (
        ("question", "context", "answers") if record.nested else (columns.question, columns.context, columns.answers)
    )
    question, context, answers = (record.fields.get(name) for name in names)
    lacks = [value is None or (isinstance(value, str) and not value.strip()) for value in (question, context, answers)]
    return lacks[0] or lacks[1] or (lacks[2] and not record.fields.get("is_impossible"))


def _unlabelled(record: Record | InputError, columns: Columns, row: int) -> QuestionExample:
    if isinstance(record, InputError):
        raise record
    return _example(record, columns, row, strict=True)


def _example(record: Record, columns: Columns, row: int, strict: bool) -> QuestionExample:
    """The record without its answers; a flat record without an id is named by its row, from 0."""
    nested = record.nested
    identifier = record.fields.get("id" if nested else columns.id)
    if identifier is None and not nested:
        identifier = str(row)
    if isinstance(identifier, int) and not isinstance(identifier, bool):
        identifier = str(identifier)
    if not isinstance(identifier, str) or not identifier:
        found = "is missing" if identifier is None else f"is {kind_of(identifier)}, not a name"
        raise InputError(f"{record.place('id' if nested else columns.id)} {found}; every question needs one")
    title = record.fields.get("title" if nested else columns.title)
    return QuestionExample(
        id=identifier,
        question=_text(record, "question" if nested else columns.question, strict),
        context=_text(record, "context" if nested else columns.context, strict),
        answers=(),
        is_impossible=False,
        title=title if isinstance(title, str) else None,
        where=record.where,
    )


def _text(record: Record, name: str, strict: bool) -> str:
    value = record.fields.get(name)
    if isinstance(value, str) and (value.strip() or not strict):
        return _whole(value, record.place(name))
    if value is None:
        raise InputError(f"{record.place(name)} is missing; the fields here are {listed(record.fields) or 'none'}")
    raise InputError(f"{record.place(name)} is {kind_of(value)}, not a text with words; correct the file, "
                     "or leave such questions out with --skip-bad")  # fmt: skip


def _whole(text: str, place: str) -> str:
    """The text; no tokenizer takes half a surrogate pair, which JSON can express."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{place}: character {error.start} is half a character, {text[error.start]!r}") from error
    return text


def _with_answers(example: QuestionExample, record: Record, columns: Columns, strict: bool) -> QuestionExample:
    """The example with its gold answers and `is_impossible`; a missing `is_impossible` means "has no answers"."""
    flag = record.fields.get("is_impossible")
    if isinstance(flag, str) and not record.nested:  # a cell of a CSV file
        flag = {"true": True, "false": False, "1": True, "0": False, "": None}.get(flag.strip().lower(), flag)
    if flag is not None and not isinstance(flag, bool):
        raise InputError(f"{record.place('is_impossible')} is {kind_of(flag)}, not true or false")
    name = "answers" if record.nested else columns.answers
    value = record.fields.get(name)
    if value is None and not flag:
        raise InputError(
            f"{record.place(name)} is missing (id {example.id!r}); labelled questions need answers with text and "
            "answer_start, an empty list where unanswerable"
        )
    place = record.place(name)
    value = _read_cell(value) if isinstance(value, str) else value
    answers = _flat_answers(value, place) if isinstance(value, dict) else _listed_answers(value or [], place)
    impossible = not answers if flag is None else flag
    if strict and impossible != (not answers):
        contrary = "true but it has answers" if impossible else "false but it has no answers"
        raise InputError(f"{record.place('is_impossible')} (id {example.id!r}) is {contrary}; correct one of them")
    return replace(example, answers=answers, is_impossible=impossible)


_ARRAY = re.compile(r"array\((\[.*?\])(?:,\s*dtype=\w+)?\)", re.DOTALL)


def _read_cell(text: str) -> object:
    """Answers in a cell of a CSV file, as JSON, Python or pandas writes them; other texts as they are."""
    for parse in (parse_json, lambda one: ast.literal_eval(_ARRAY.sub(r"\1", one))):
        try:
            return parse(text.strip()) if text.strip()[:1] in ("[", "{") else text
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    return text


def _listed_answers(value: object, place: str) -> tuple[Answer, ...]:
    """SQuAD's form: a list of objects."""
    if not isinstance(value, list):
        raise InputError(f"{place} is {kind_of(value)}, not a list of objects with text and answer_start")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise InputError(f"{place}[{index}] is {kind_of(item)}, not an object with text and answer_start")
    return tuple(
        _answer(
            item.get("text"), item.get("answer_start"), (f"{place}[{index}].text", f"{place}[{index}].answer_start")
        )
        for index, item in enumerate(value)
    )


def _flat_answers(value: dict[str, object], place: str) -> tuple[Answer, ...]:
    """Hugging Face's form: one object of two lists."""
    texts, starts = value.get("text"), value.get("answer_start")
    if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
        raise InputError(f"{place} must hold two lists of the same length, text and answer_start")
    return tuple(
        _answer(text, start, (f"{place}.text[{index}]", f"{place}.answer_start[{index}]"))
        for index, (text, start) in enumerate(zip(texts, starts, strict=True))
    )


def _answer(text: object, start: object, places: tuple[str, str]) -> Answer:
    if not isinstance(text, str) or not text.strip():
        found = "missing" if text is None else kind_of(text)
        raise InputError(f"{places[0]} is {found}, not a text; give no answers where the question is unanswerable")
    if isinstance(start, bool) or not isinstance(start, int):
        found = "missing" if start is None else kind_of(start)
        raise InputError(f"{places[1]} is {found}, not a number of characters from 0")
    return Answer(_whole(text, places[0]), start)


def _with_offsets(example: QuestionExample, fix: bool, report: ReadReport) -> QuestionExample:
    """The example with every answer's start true; answers that are nowhere in the context get `NOT_FOUND`."""
    answers = []
    for index, answer in enumerate(example.answers):
        if answer.start >= 0 and example.context.startswith(answer.text, answer.start):
            answers.append(answer)
            continue
        name = f"{example.where} (id {example.id!r}), answer {index} {answer.text[:60]!r}"
        first = example.context.find(answer.text)
        if first < 0:
            report.not_found.append(name)
            answers.append(Answer(answer.text, NOT_FOUND))
            continue
        if not fix or example.context.find(answer.text, first + 1) >= 0:
            raise InputError(_wrong_start(example, answer, name, fix))
        report.mended.append(f"{name}: answer_start {answer.start} is now {first}")
        answers.append(Answer(answer.text, first))
    return replace(example, answers=tuple(answers)) if tuple(answers) != example.answers else example


def _wrong_start(example: QuestionExample, answer: Answer, name: str, fix: bool) -> str:
    times = example.context.count(answer.text)
    stands = f"occurs {times} times in the context" if times > 1 else f"is at {example.context.find(answer.text)}"
    there = example.context[max(answer.start, 0) : max(answer.start, 0) + len(answer.text)][:60]
    mend = "" if fix or times > 1 else ", let --fix-offsets correct it"
    remedy = f"correct the file{mend}, or leave such questions out with --skip-bad"
    return f"{name}: answer_start {answer.start} points at {there!r}, but the answer {stands}; {remedy}"
