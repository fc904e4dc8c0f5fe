"""What is wrong with surveyed data, how bad it is, where, and what to do."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bertune.checking.lengths import Lengths
from bertune.checking.similar_labels import labels_of_missing_values, shown, similar_labels
from bertune.checking.survey import SHOWN, Hashes, Survey
from bertune.errors import counted

Severity = Literal["error", "warn", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warn", "note")
RARE = 10
"""Examples below which a label can hardly be learnt."""
_ODD: dict[str, tuple[Severity, str, str]] = {
    "empty": ("warn", "have an empty text", "remove these rows, or fill them in"),
    "near-empty": ("note", "have a text without any letter or digit", "see whether they carry meaning"),
    "replacement-character": (
        "warn",
        "hold U+FFFD, which stands for characters that were lost",
        "export the file again from its source in UTF-8",
    ),
    "mojibake": (
        "warn",
        "hold UTF-8 that was read as another encoding (é became Ã©)",
        "export the file again, or mend it with the Python package ftfy",
    ),
    "lone-surrogate": ("warn", "hold half a surrogate pair", "export the file again from its source"),
    "control-character": ("note", "hold control characters, which the tokenizer drops", "clean the texts"),
    "private-use": ("note", "hold characters of private use (icon fonts, PDF)", "replace or remove them"),
    "byte-order-mark": ("note", "hold a byte order mark inside", "files were joined; remove U+FEFF"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    severity: error: training refuses it. warn: it spoils training or its figures. note: worth knowing.
    code: what it is, for programs.
    file: where.  rows: how many.  places: the first of them.
    what: in words.  remedy: what to do; empty where `what` is training's own message, which says that too.
    """

    severity: Severity
    code: str
    file: str
    rows: int
    places: tuple[str, ...]
    what: str
    remedy: str

    def __str__(self) -> str:
        """One line for a log."""
        named = f" ({', '.join(self.places)}{', …' if self.rows > len(self.places) else ''})" if self.places else ""
        return f"{self.file}: {self.what}{named}; {self.remedy}" if self.remedy else self.what

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"places": list(self.places)}


def in_file(survey: Survey) -> Iterator[Finding]:
    """Findings in one file's rows."""
    file, count = str(survey.path), len(survey)
    for code, (severity, what, remedy) in _ODD.items():
        if seen := survey.odd.get(code):
            shown = f": {seen.excerpt.strip()!r}" if seen.excerpt.strip() else ""
            places = tuple(map(survey.where, seen.rows))
            yield Finding(severity, code, file, seen.count, places, f"{_of(seen.count, count)} {what}{shown}", remedy)
    groups = _Groups(survey)
    if len(groups.repeats):
        severity = "warn" if len(groups.repeats) >= 0.01 * count else "note"
        places = tuple(f"{survey.where(row)} = {survey.where(groups.original(row))}" for row in groups.repeats[:SHOWN])
        what = f"{_of(len(groups.repeats), count)} repeat an earlier row's text"
        yield Finding(severity, "duplicates", file, len(groups.repeats), places, what, "keep one of each")
    contrary = groups.contrary()
    if len(contrary):
        places = tuple(f"{survey.where(row)} ≠ {survey.where(groups.original(row))}" for row in contrary[:SHOWN])
        what = f"{_of(len(contrary), count)} have an earlier row's text but another label"
        yield Finding("warn", "conflicting-labels", file, len(contrary), places, what, "decide on one label a text")
    yield from _similar_labels(survey)


def of_training(survey: Survey, *, weighted: bool) -> Iterator[Finding]:
    """Findings about the labels to learn. weighted: whether the task has `--class-weights`."""
    file, labels = str(survey.path), survey.labels
    if len(labels) > max(50, len(survey) // 2):
        what = f"{counted(len(labels), 'different label')} in {counted(len(survey), 'row')}"
        places = tuple(f"{survey.where(row)}: {label!r}" for label, row in list(survey.first.items())[:SHOWN])
        yield Finding("warn", "many-labels", file, len(survey), places, what, "is this the column of the labels?")
        return
    if len(labels) < 2:
        return
    (most, high), (least, low) = labels.most_common(1)[0], labels.most_common()[-1]
    if high >= 3 * low:
        severity: Severity = "warn" if high >= 10 * low else "note"
        remedy = "try --class-weights balanced, and judge by f1 rather than accuracy" if weighted else "judge by f1"
        what = f"label {most!r} is {high / low:.0f} times as frequent as {least!r} ({high} to {low})"
        yield Finding(severity, "imbalance", file, low, (survey.where(survey.first[least]),), what, remedy)
    rare = [label for label, count in labels.items() if count < RARE]
    if rare:
        what = f"{counted(len(rare), 'label has', 'labels have')} fewer than {RARE} examples: {_listed(rare)}"
        places = tuple(survey.where(survey.first[label]) for label in rare[:SHOWN])
        rows = sum(labels[label] for label in rare)
        remedy = "add examples, or merge labels that mean nearly the same"
        yield Finding("warn", "rare-labels", file, rows, places, what, remedy)


def between(train: Survey, validation: Survey, *, refused: bool) -> Iterator[Finding]:
    """Findings about two files together. refused: whether the task refuses labels that training lacks."""
    file, count = str(validation.path), len(validation)
    at = _matches(train.texts, validation.texts)
    leaks = np.flatnonzero((at >= 0) & ~validation.blank)
    if len(leaks):
        others = int((train.answers[at[leaks]] != validation.answers[leaks]).sum())
        what = f"{_of(len(leaks), count)} are in {train.path.name} too" + (
            f", {others} of them with another label" if others else ""
        )
        places = tuple(f"{validation.where(row)} = {train.where(int(at[row]))}" for row in leaks[:SHOWN])
        yield Finding(
            "warn", "leak", file, len(leaks), places, what, "remove them from one file; otherwise metrics are too good"
        )
    for name in train.fields.keys() & validation.fields.keys():
        own, theirs = validation.fields[name], train.fields[name]
        shared = np.flatnonzero((_matches(theirs, own) >= 0) & (at < 0) & (own != 0))
        if len(shared) >= 0.01 * count:
            places = tuple(map(validation.where, shared[:SHOWN].tolist()))
            what = f"{_of(len(shared), count)} share their {name} with a row of {train.path.name}, not the rest"
            yield Finding("note", "shared-text", file, len(shared), places, what, f"split by {name} to be strict")
    for label in [label for label in validation.labels if label not in train.labels]:
        places = (validation.where(validation.first[label]),)
        what = f"label {label!r} is on {validation.labels[label]} rows, and never occurs in {train.path.name}"
        severity: Severity = "error" if refused else "warn"
        remedy = "add examples of it to the training data, or remove it here"
        yield Finding(severity, "label-only-in-validation", file, validation.labels[label], places, what, remedy)
    absent = [label for label in train.labels if label not in validation.labels]
    if absent:
        what = f"{counted(len(absent), 'label')} of {train.path.name} without an example here: {_listed(absent)}"
        places = tuple(f"{train.path.name}, {train.where(train.first[label])}" for label in absent[:SHOWN])
        rows = sum(train.labels[label] for label in absent)
        yield Finding("note", "label-only-in-training", file, rows, places, what, "figures say nothing about them")


def of_lengths(survey: Survey, lengths: Lengths, suggested: int) -> Iterator[Finding]:
    """Findings about texts over the limit, and about the vocabulary. suggested: a length that cuts few."""
    file = str(survey.path)
    over = round(lengths.over * len(survey))
    if lengths.over and lengths.cuts:
        severity: Severity = "warn" if lengths.over > 0.05 else "note"
        what = (
            f"{'' if lengths.complete else 'about '}{lengths.over:.1%} of the sequences are cut at "
            f"--max-seq-length {lengths.limit}, {lengths.lost:.1%} of all tokens are lost"
        )
        places = tuple(f"{survey.named(place)}: {tokens} tokens" for tokens, place in lengths.longest)
        remedy = f"--max-seq-length {suggested}" if suggested > lengths.limit else "see --long-text"
        yield Finding(severity, "cut", file, over, places, what, remedy)
    if lengths.unknown > 0.01:
        what = f"{lengths.unknown:.1%} of the tokens are unknown to the encoder's vocabulary"
        places = tuple(filter(None, map(survey.named, lengths.unknown_places)))
        remedy = "choose an encoder of the texts' language and script"
        yield Finding("warn", "unknown-tokens", file, lengths.unknown_rows, places, what, remedy)


class _Groups:
    """Rows of a file that have the same texts."""

    def __init__(self, survey: Survey) -> None:
        self._answers = survey.answers
        order = np.argsort(survey.texts, kind="stable")
        ordered = survey.texts[order]
        again = np.append(False, ordered[1:] == ordered[:-1]) & ~survey.blank[order]
        starts = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
        self._originals: dict[int, int] = dict(zip(order[again].tolist(), order[starts[again]].tolist(), strict=True))
        self.repeats = sorted(self._originals)

    def original(self, row: int) -> int:
        """The first row with the same texts."""
        return self._originals[row]

    def contrary(self) -> list[int]:
        """Rows whose answer is not that of the first row with the same texts."""
        return [row for row in self.repeats if self._answers[row] != self._answers[self._originals[row]]]


def _matches(known: Hashes, asked: Hashes) -> npt.NDArray[np.int64]:
    """For every asked hash the first row that has it, or -1."""
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], asked), max(0, len(known) - 1))
    return np.where(known[order][at] == asked, order[at], -1) if len(known) else np.full(len(asked), -1)


def _similar_labels(survey: Survey) -> Iterator[Finding]:
    """Labels that look or count as one another, and labels that stand for a missing value."""
    for names, difference in similar_labels(survey.labels):
        places = tuple(f"{survey.where(survey.first[name])}: {shown([name])}" for name in names[:SHOWN])
        rows = sum(survey.labels[name] for name in names)
        what = f"the labels {shown(names)} differ in {difference} alone"
        yield Finding("warn", "labels-alike", str(survey.path), rows, places, what, "spell them alike")
    for label in labels_of_missing_values(survey.labels):
        what = f"the label {label!r} is learnt as a class of its own"
        remedy = "where it means that there is no label, empty these cells and use --drop-unlabelled"
        rows, places = survey.labels[label], (survey.where(survey.first[label]),)
        yield Finding("warn", "missing-value-label", str(survey.path), rows, places, what, remedy)


def _listed(names: Iterable[str], most: int = 8) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:most])) + (f", … and {len(names) - most} more" if len(names) > most else "")


def _of(count: int, rows: int) -> str:
    return f"{count} of {rows} rows ({count / max(1, rows):.1%})"
