"""GLUE and XNLI files as run_classifier.py's processors read them: by column number, without quoting, labels in order.

Columns, file names and label order: google-research/bert's run_classifier.py for cola, mnli, mrpc and xnli; the files'
own headers for the tasks that it lacks. Columns count from 0.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from bertune.errors import InputError, Problems
from bertune.tasks.text_classification import TextExample

Part = Literal["train", "dev", "test"]

_NLI = ("contradiction", "entailment", "neutral")
_BINARY = ("0", "1")
_ENTAILED = ("entailment", "not_entailment")


@dataclass(frozen=True)
class Columns:
    """Where a file has what. label: None: the file has none; -1: the last column.  header: skip the first line."""

    file: str
    first: int
    second: int | None
    label: int | None
    header: bool = True
    language: int | None = None


@dataclass(frozen=True)
class Processor:
    """A task's files and labels. name: of the same task in `bertune train`. parts: a part left out cannot be read."""

    name: str
    labels: tuple[str, ...]
    train: Columns
    dev: Columns
    test: Columns
    original: bool = False

    def columns(self, part: Part) -> Columns:
        """Where a part's file has what."""
        return {"train": self.train, "dev": self.dev, "test": self.test}[part]


def _same(name: str, labels: tuple[str, ...], train: Columns, *, label: int | None = None) -> Processor:
    """Development like training, test without labels, each in its own file. label: of the development file."""
    dev = replace(train, file="dev.tsv", label=train.label if label is None else label)
    return Processor(name, labels, train, dev, replace(train, file="test.tsv", label=None))


_MNLI = Processor(
    "mnli",
    _NLI,
    Columns("train.tsv", 8, 9, -1),
    Columns("dev_matched.tsv", 8, 9, -1),
    Columns("test_matched.tsv", 8, 9, None),
    original=True,
)

PROCESSORS: dict[str, Processor] = {
    "cola": Processor(
        "cola",
        _BINARY,
        Columns("train.tsv", 3, None, 1, header=False),
        Columns("dev.tsv", 3, None, 1, header=False),
        Columns("test.tsv", 1, None, None),
        original=True,
    ),
    "mnli": _MNLI,
    "mrpc": replace(_same("mrpc", _BINARY, Columns("train.tsv", 3, 4, 0)), original=True),
    "xnli": Processor(
        "xnli",
        _NLI,
        Columns("multinli/multinli.train.{language}.tsv", 0, 1, 2),
        Columns("xnli.dev.tsv", 6, 7, 1, language=0),
        Columns("xnli.test.tsv", 6, 7, None, language=0),
        original=True,
    ),
    "mnli-mm": replace(
        _MNLI,
        dev=replace(_MNLI.dev, file="dev_mismatched.tsv"),
        test=replace(_MNLI.test, file="test_mismatched.tsv"),
        original=False,
    ),
    "sst-2": replace(_same("sst2", _BINARY, Columns("train.tsv", 0, None, 1)), test=Columns("test.tsv", 1, None, None)),
    "rte": _same("rte", _ENTAILED, Columns("train.tsv", 1, 2, 3)),
    "qnli": _same("qnli", _ENTAILED, Columns("train.tsv", 1, 2, 3)),
    "wnli": _same("wnli", _BINARY, Columns("train.tsv", 1, 2, 3)),
    "qqp": replace(_same("qqp", _BINARY, Columns("train.tsv", 3, 4, 5)), test=Columns("test.tsv", 1, 2, None)),
}
"""By --task_name in lower case. The first four are the original's."""

_ALIASES = {"sst2": "sst-2", "mnli_mm": "mnli-mm"}


def processor_of(task_name: str) -> tuple[str, Processor]:
    """The processor of a task, and its usual name.

    Raises:
        InputError: an unknown task; the known ones are named.
    """
    name = _ALIASES.get(task_name.lower(), task_name.lower())
    if name not in PROCESSORS:
        other = "stsb" if name in ("sts-b", "stsb") else "text-classification"
        own = "For its numbers" if other == "stsb" else "For a table of your own"
        raise InputError(
            f"--task_name={task_name}: no such task; known: {', '.join(PROCESSORS)}. {own} use "
            f"`bertune train --task {other}`"
        )
    return name, PROCESSORS[name]


def path_of(processor: Processor, data_dir: Path, part: Part, language: str) -> Path:
    """The file of a part."""
    return data_dir / processor.columns(part).file.format(language=language)


def read_part(processor: Processor, data_dir: Path, part: Part, language: str = "zh") -> list[TextExample]:
    """A part's examples in the file's order; test examples have no labels.

    Raises:
        InputError: no such file; bytes that are not UTF-8; rows with too few columns or unknown labels, named together.
    """
    columns = processor.columns(part)
    path = path_of(processor, data_dir, part, language)
    problems = Problems()
    examples = []
    for number, fields in _lines(path, columns.header):
        wanted = [columns.first, columns.second, columns.language, columns.label]
        last = max(column for column in wanted if column is not None)
        if len(fields) <= last:
            problems.add(f"{path}, line {number}: {len(fields)} columns separated by tabs, but column {last} is needed")
            continue
        if columns.language is not None and fields[columns.language] != language:
            continue
        label = None if columns.label is None else fields[columns.label]
        label = "contradiction" if label == "contradictory" and processor.name == "xnli" else label
        if label is not None and label not in processor.labels:
            problems.add(f"{path}, line {number}: label {label!r}; this task has {', '.join(processor.labels)}")
            continue
        second = None if columns.second is None else fields[columns.second]
        examples.append(TextExample(fields[columns.first], second, label, number))
    problems.raise_if_any()
    if not examples:
        of = f" of language {language!r} (--xnli_language)" if columns.language is not None else ""
        raise InputError(f"{path}: holds no examples{of}")
    return examples


def _lines(path: Path, header: bool) -> Iterator[tuple[int, list[str]]]:
    """Number and fields of every line, but for a header and blank lines at the end; a `"` is an ordinary character."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); --data_dir must hold the task's files") from error
    except UnicodeDecodeError as error:
        bad = error.object[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {bad}: not UTF-8 ({error.reason}); save the file as UTF-8") from error
    lines = text.rstrip("\r\n").split("\n") if text.strip() else []
    for number, line in enumerate(lines, 1):
        if number > 1 or not header:
            yield number, line.removesuffix("\r").split("\t")
