"""The records of a question file, each with the place where it stands: SQuAD JSON, or rows (JSON lines, CSV, Parquet).

Nothing is judged here but the file's form; `reading` turns records into questions.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.data.columns import unknown_column
from bertune.data.table_options import TableOptions
from bertune.data.tables import DEFAULT, open_table
from bertune.errors import InputError, Problems
from bertune.files.inputs import no_such_file
from bertune.files.text_files import is_compressed, open_bytes, plain_suffix
from bertune.tasks.reading import log_columns

_SHAPE = "SQuAD's form is data[].paragraphs[], each with context and qas[]"
_Items = Iterator[tuple[Mapping[str, object] | InputError, str]]


@dataclass(frozen=True, slots=True)
class Record:
    """Fields as the file has them, and the place for messages.

    where: "dev.json: data[0].paragraphs[3].qas[1]" or "dev.jsonl, line 7".
    nested: SQuAD's own form, where the paragraph has the context and the fields' names are fixed.
    """

    where: str
    fields: Mapping[str, object]
    nested: bool = False

    def place(self, name: str) -> str:
        """Where the field `name` stands."""
        if self.nested and name == "context":
            return f"{self.where.rpartition('.qas[')[0]}.context"
        return f"{self.where}.{name}" if self.where.endswith("]") else f"{self.where}, column {name!r}"


def read_records(
    path: Path,
    needed: Sequence[str] = (),
    table: TableOptions = DEFAULT,
    taken: Mapping[str, str] | None = None,
) -> Iterator[Record | InputError]:
    """Every record of the file, in order; what is wrong with one of them comes in its place, as an `InputError`.

    `.json` and `.json.gz` are parsed whole; all else is read in constant memory.

    Args:
        path: the file.
        needed: columns that a flat file must have.
        table: how a flat file is written.
        taken: what a flat file's columns are taken for, to be logged; None: nothing is.

    Raises:
        InputError: the file cannot be read on: absent, of an unknown format, broken.
    """
    if plain_suffix(path) == ".json":
        yield from _json_records(path)
        return
    rows = open_table(path, table)
    problems = Problems()
    problems.extend(f"{path}: {unknown_column(name, rows.columns)}" for name in needed if name not in rows.columns)
    problems.raise_if_any()
    if taken is not None:
        log_columns(rows, taken)
    try:
        for row in rows:
            yield Record(rows.where(row), row.values)
    except InputError as error:
        yield error


def kind_of(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {value[:40]!r}" if value.strip() else "an empty text"
    if isinstance(value, (bool, int, float)):
        return f"the value {json.dumps(value)}"
    return "a list" if isinstance(value, list) else "an object"


def _json_records(path: Path) -> Iterator[Record | InputError]:
    document = _parse(path, _read(path))
    if isinstance(document, list):
        for index, item in enumerate(document):
            yield from _listed_record(item, f"{path}: [{index}]")
        return
    if isinstance(document, dict) and "data" not in document and ("paragraphs" in document or "qas" in document):
        yield from _listed_record(document, f"{path}: ")
        return
    for article, where in _items(document, "data", f"{path}: "):
        if isinstance(article, InputError):
            yield article
        else:
            yield from _listed_record(article, where)


def _listed_record(item: object, where: str) -> Iterator[Record | InputError]:
    """What an item of a list is: an article, a paragraph (of CMRC 2018's own files, too), or a flat question."""
    if not isinstance(item, dict):
        yield InputError(f"{where} is {kind_of(item)}, not an object")
    elif "qas" in item:
        yield from _paragraph_records(item, where, item.get("title"))
    elif "paragraphs" in item or "question" not in item:
        yield from _article_records(item, where)
    else:
        yield Record(where, item)


def _read(path: Path) -> str:
    try:
        with open_bytes(path, is_compressed(path)) as file:
            content = file.read()
    except FileNotFoundError as error:
        raise InputError(f"{path}: {no_such_file(path)}") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: not a complete gzip file ({error}); fetch it again") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: line {line}: byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        ) from error


def _parse(path: Path, text: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        lines = error.msg == "Extra data" and error.lineno == 2
        hint = "; if every line is an object of its own, name the file .jsonl" if lines else ""
        raise InputError(
            f"{path}: line {error.lineno}, column {error.colno}: broken JSON: {error.msg}{hint}"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path}: broken JSON: brackets nested thousands deep") from error
    except ValueError as error:  # a number of thousands of digits
        raise InputError(f"{path}: broken JSON: {error}") from error


def _article_records(article: Mapping[str, object], where: str) -> Iterator[Record | InputError]:
    for paragraph, place in _items(article, "paragraphs", f"{where}."):
        if isinstance(paragraph, InputError):
            yield paragraph
        else:
            yield from _paragraph_records(paragraph, place, article.get("title"))


def _paragraph_records(paragraph: Mapping[str, object], place: str, title: object) -> Iterator[Record | InputError]:
    context = paragraph.get("context", paragraph.get("context_text"))
    if not isinstance(context, str):
        found = "is missing" if "context" not in paragraph else f"is {kind_of(context)}, not a text"
        yield InputError(f"{place}.context {found}; every paragraph needs one")
        return
    for question, spot in _items(paragraph, "qas", f"{place}."):
        if isinstance(question, InputError):
            yield question
        else:
            fields = _of_cmrc(question, context) if "query_text" in question else question
            yield Record(spot, {**fields, "context": context, "title": title}, nested=True)


def _of_cmrc(question: Mapping[str, object], context: str) -> dict[str, object]:
    """CMRC 2018's own names; its answers are texts alone, and stand where the context has them first."""
    answers = question.get("answers", question.get("answer"))
    texts = answers if isinstance(answers, list) else [answers] if isinstance(answers, str) else []
    found = [{"text": text, "answer_start": context.find(text)} for text in dict.fromkeys(texts) if text]
    named = {"id": question.get("query_id"), "question": question.get("query_text")}
    return named | ({"answers": found} if answers is not None else {})


def _items(parent: object, key: str, prefix: str) -> _Items:
    """The objects in the list `parent[key]`, each with its path; what is wrong comes as an `InputError`."""
    items = parent.get(key) if isinstance(parent, dict) else None
    if not isinstance(items, list):
        found = f"is {kind_of(items)}, not a list" if isinstance(parent, dict) and key in parent else "is missing"
        yield InputError(f"{prefix}{key} {found}; {_SHAPE}"), prefix
        return
    for index, item in enumerate(items):
        place = f"{prefix}{key}[{index}]"
        yield (item if isinstance(item, dict) else InputError(f"{place} is {kind_of(item)}, not an object")), place
