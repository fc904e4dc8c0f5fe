"""One pass over the rows of a file that keeps a few numbers a row: hashes of texts and answers, places, counts."""

import dataclasses
import itertools
import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.checking.characters import odd_texts
from bertune.tasks.parts import ExampleParts, parts_of

CHUNK = 8192
"""Examples looked at together."""
SHOWN = 5
"""Rows that a finding names."""
KEPT = 10_000
"""Examples that are kept at most: the first of every label, and the first ones."""
Hashes = npt.NDArray[np.int64]
_WORD = re.compile(r"\w")


@dataclass
class Seen:
    """Rows of one kind: how many, the first of them, and what one of them shows. rows: from 0."""

    count: int = 0
    rows: list[int] = field(default_factory=list)
    excerpt: str = ""

    def add(self, row: int, excerpt: str = "") -> None:
        """One more row, unless it is the last again."""
        if self.rows and self.rows[-1] == row:
            return
        self.count += 1
        self.excerpt = self.excerpt or excerpt
        if len(self.rows) < SHOWN:
            self.rows.append(row)


@dataclass
class Survey:
    """What a pass over a file kept.

    texts: hash of every row's texts, letter case and white space aside. Shape: (rows,).
    answers: hash of what every row is labelled with. Shape: (rows,).
    fields: hashes of every single text, where rows have several. Shape: (rows,) each.
    blank: rows whose texts are all empty. Shape: (rows,).
    labels: how often each name occurs.  first: the row in which it occurs first.
    numbers: those of regression. Shape: (rows,) or (0,).
    odd: rows by what is odd in their texts.
    kept: a few examples in which every label occurs.
    """

    path: Path
    texts: Hashes
    answers: Hashes
    fields: dict[str, Hashes]
    blank: npt.NDArray[np.bool_]
    labels: Counter[str]
    first: dict[str, int]
    numbers: npt.NDArray[np.float64]
    odd: dict[str, Seen]
    kept: list[Any]
    places: Sequence[int | str]

    def __len__(self) -> int:
        return len(self.texts)

    def labels_in_words(self) -> str:
        """Labels with how often each occurs, or the range of the numbers, in one line."""
        if len(self.numbers):
            mean, low, high = self.numbers.mean(), self.numbers.min(), self.numbers.max()
            return f"numbers from {low:g} to {high:g}, mean {mean:.4g}"
        if not self.labels:
            return "no labels"
        shown = ", ".join(f"{name} {count}" for name, count in self.labels.most_common(_LABELS_SHOWN))
        more = len(self.labels) - _LABELS_SHOWN
        return f"labels: {shown}" + (f", and {more} more" if more > 0 else "")

    @property
    def unit(self) -> str:
        """What a place counts."""
        return "row" if self.path.suffix == ".parquet" else "line"

    def where(self, row: int) -> str:
        """A row's place in its file: "line 7", or as the task tells it."""
        return self.named(self.places[row]) or f"example {row + 1}"

    def named(self, place: int | str) -> str:
        """An example's place in words; empty where it is unknown."""
        if isinstance(place, str):
            return place.removeprefix(str(self.path)).lstrip(",: ")
        return f"{self.unit} {place}" if place else ""


_LABELS_SHOWN = 12


def survey_of_files(
    parts: Sequence[tuple[Path, Iterable[Any]]], shown: Path, watch: Callable[[list[Any]], None] | None = None
) -> Survey:
    """A survey over several files in turn, whose places name their files.

    Args:
        parts: files and their examples.
        shown: one path for messages about all of them.
        watch: is shown every CHUNK of examples too.
    """
    counts = [0] * len(parts)

    def examples() -> Iterator[Any]:
        for index, (_, some) in enumerate(parts):
            for example in some:
                counts[index] += 1
                yield example

    found = take_survey(shown, examples(), watch)
    if len(parts) == 1:
        return found
    return over_files(found, [(path, count) for (path, _), count in zip(parts, counts, strict=True)])


def over_files(survey: Survey, parts: Sequence[tuple[Path, int]]) -> Survey:
    """A survey of several files' examples with places that name the file: "b.csv, line 7".

    parts: files and how many of the rows are theirs, in order.
    """
    places: list[int | str] = []
    for path, rows in parts:
        unit = "row" if path.suffix == ".parquet" else "line"
        for place in survey.places[len(places) : len(places) + rows]:
            places.append(f"{path}, {unit} {place}" if isinstance(place, int) and place else place)
    return dataclasses.replace(survey, places=places)


def take_survey(path: Path, examples: Iterable[Any], watch: Callable[[list[Any]], None] | None = None) -> Survey:
    """Go over a file's examples once; memory is about 40 bytes a row.

    Args:
        path: their file.
        examples: as the task reads them.
        watch: is shown every CHUNK of examples too.
    """
    pass_ = _Pass()
    for chunk in _chunks(examples):
        pass_.add(chunk)
        if watch is not None:
            watch(chunk)
    return pass_.survey(path)


def _chunks(examples: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(examples)
    while chunk := list(itertools.islice(rest, CHUNK)):
        yield chunk


class _Pass:
    """Gathers a survey. Hashes are Python's, of 64 bits: a million rows collide by chance once in 10^7 times."""

    def __init__(self) -> None:
        self.texts, self.answers, self.numbers = array("q"), array("q"), array("d")
        self.fields: dict[str, array[int]] = {}
        self.blank: list[npt.NDArray[np.bool_]] = []
        self.labels: Counter[str] = Counter()
        self.first: dict[str, int] = {}
        self.odd: defaultdict[str, Seen] = defaultdict(Seen)
        self.kept: list[Any] = []
        self.lines, self.described = array("q"), list[int | str]()
        self.lowest, self.highest = float("inf"), -float("inf")

    def add(self, examples: list[Any]) -> None:
        """The next examples."""
        start = len(self.texts)
        parts = [parts_of(example) for example in examples]
        plain = [tuple(_plain(text) for text in one.texts.values()) for one in parts]
        self.texts.extend(map(hash, plain))
        self.answers.extend(hash(one.answer or (tuple(one.labels), one.number)) for one in parts)
        self.blank.append(np.fromiter((not any(texts) for texts in plain), np.bool_, len(plain)))
        several = (name for one in parts if len(one.texts) > 1 for name in one.texts)
        for name in dict.fromkeys([*self.fields, *several]):
            column = self.fields.setdefault(name, array("q", [0] * start))
            column.extend(hash(_plain(one.texts.get(name, ""))) for one in parts)
        self._places(parts)
        self._labels(parts, examples, start)
        self._texts(parts, start)

    def _places(self, parts: list[ExampleParts]) -> None:
        for one in parts:
            if isinstance(one.place, int) and not self.described:
                self.lines.append(one.place)
            else:
                self.described = self.described or list(self.lines)
                self.described.append(one.place)

    def _labels(self, parts: list[ExampleParts], examples: list[Any], start: int) -> None:
        for row, (one, example) in enumerate(zip(parts, examples, strict=True), start):
            keep = row < 100
            for label in one.labels:
                if label not in self.first:
                    self.first[label] = row
                    keep = True
            if one.number is not None:
                self.numbers.append(one.number)
                keep |= one.number < self.lowest or one.number > self.highest
                self.lowest, self.highest = min(self.lowest, one.number), max(self.highest, one.number)
            if keep and len(self.kept) < KEPT:
                self.kept.append(example)
        self.labels.update(label for one in parts for label in one.labels)

    def _texts(self, parts: list[ExampleParts], start: int) -> None:
        rows = [row for row, one in enumerate(parts, start) for _ in one.texts]
        texts = [text for one in parts for text in one.texts.values()]
        for row, text in zip(rows, texts, strict=True):
            if not text[:1].isalnum() and not _WORD.search(text):
                self.odd["near-empty" if text.strip() else "empty"].add(row, text)
        for index, kind, excerpt in odd_texts(texts):
            self.odd[kind].add(rows[index], excerpt)

    def survey(self, path: Path) -> Survey:
        """What was gathered."""
        fields = {name: np.array(column, np.int64) for name, column in self.fields.items()}
        return Survey(
            path,
            np.array(self.texts, np.int64),
            np.array(self.answers, np.int64),
            fields,
            np.concatenate([np.zeros(0, np.bool_), *self.blank]),
            self.labels,
            self.first,
            np.array(self.numbers, np.float64),
            dict(self.odd),
            self.kept,
            self.described or self.lines,
        )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()
