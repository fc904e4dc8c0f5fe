"""Holds out a share of labelled rows for validation: stratified by label, decided by the rows' content alone.

Rows of the same texts (letter case and white space aside), or of the same value in a group column, stay together, so
that nothing of the validation rows is trained on. A row's place is decided by a hash of its content: whatever the
order of the rows, the machine or the seed, the same rows are held out.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.columns import unknown_column
from bertune.data.table_options import TableOptions
from bertune.data.tables import DEFAULT, open_table
from bertune.errors import InputError
from bertune.tasks.parts import ExampleParts, parts_of

logger = logging.getLogger(__name__)

SHARE = 0.1
"""Of the training rows, where nothing else is asked for."""
_RARE = "\x1erare"
_BINS = 10
"""Classes that the numbers of a regression are sorted into, of equal size."""
_TOGETHER = ("context",)
"""Texts whose rows stay together: questions on the same passage are in training or in validation, never in both."""


@dataclass(frozen=True)
class HoldOut:
    """Which rows are held out.

    share: of the rows, above 0 and below 1.  group_column: rows of the same value there stay together.
    part: "train" for the rows that remain, "validation" for those held out.
    """

    share: float
    group_column: str | None
    part: str

    def describe(self) -> dict[str, Any]:
        """For the record."""
        return asdict(self)


def held_out_rows(examples: Sequence[Any], share: float, groups: Sequence[str] | None = None) -> npt.NDArray[np.bool_]:
    """Which examples are held out.

    Of every label as many groups as its share of the rows asks for; a label's last group always stays in training.

    Args:
        examples: labelled.
        share: of the rows.
        groups: what stays together, by example; None: rows of the same texts.

    Returns: True for those held out. Shape: (examples,).
    """
    strata, rows_of = _strata(examples, groups)
    chosen = np.zeros(len(examples), np.bool_)
    for label, wanted in _quotas(strata, rows_of, share).items():
        taken = 0
        for name in sorted(strata[label], key=_hash)[:-1]:
            size = len(rows_of[name])
            if taken + size / 2 > wanted:  # as near to the quota as whole groups come
                continue
            chosen[rows_of[name]] = True
            taken += size
    return chosen


def fold_numbers(examples: Sequence[Any], folds: int, groups: Sequence[str] | None = None) -> npt.NDArray[np.int64]:
    """The fold that every example is held out in: every label spread evenly, the folds of equal size.

    Args:
        examples: labelled.
        folds: how many.
        groups: what stays together, by example; None: rows of the same texts.

    Returns: numbers from 0; fewer different ones than `folds` where there are fewer groups. Shape: (examples,).
    """
    strata, rows_of = _strata(examples, groups)
    numbers = np.zeros(len(examples), np.int64)
    sizes = np.zeros(folds, np.int64)
    for label in sorted(
        strata, key=lambda one: (len(strata[one]), one)
    ):  # the rarest first, as it has the least choice
        own = np.zeros(folds, np.int64)
        for name in sorted(strata[label], key=lambda one: (-len(rows_of[one]), _hash(one))):
            fold = min(range(folds), key=lambda one: (own[one], sizes[one], one))
            numbers[rows_of[name]] = fold
            own[fold] += len(rows_of[name])
            sizes[fold] += len(rows_of[name])
    return numbers


def groups_by_label(examples: Sequence[Any], groups: Sequence[str] | None = None) -> dict[str, int]:
    """In how many groups every label occurs, where every example has one label; empty for other tasks.

    Args:
        examples: labelled.
        groups: as `fold_numbers` takes them.
    """
    parts = [parts_of(example) for example in examples]
    if any(len(part.labels) != 1 or part.number is not None for part in parts):
        return {}
    names = groups or [_texts(part) for part in parts]
    found: defaultdict[str, set[str]] = defaultdict(set)
    for part, name in zip(parts, names, strict=True):
        found[part.labels[0]].add(name)
    return {label: len(some) for label, some in found.items()}


def _strata(examples: Sequence[Any], groups: Sequence[str] | None) -> tuple[dict[str, list[str]], dict[str, list[int]]]:
    """By label the groups that have it mostly, and by group its rows."""
    parts = [parts_of(example) for example in examples]
    names = list(groups or (_texts(part) or repr(example) for part, example in zip(parts, examples, strict=True)))
    labels = _labels(parts)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, name in enumerate(names):
        rows_of[name].append(row)
    strata: defaultdict[str, list[str]] = defaultdict(list)
    for name, rows in rows_of.items():
        counts = Counter(labels[row] for row in rows)
        strata[min(counts, key=lambda label: (-counts[label], label))].append(name)
    if any(len(part.labels) > 1 for part in parts):  # sets of labels that occur once are no class of their own
        for label in [label for label, some in strata.items() if len(some) == 1]:
            strata[_RARE] += strata.pop(label)
    return strata, rows_of


def column_values(
    paths: Sequence[Path],
    examples_by_path: Sequence[Sequence[Any]],
    column: str,
    options: object,
    flag: str = "--group-column",
) -> list[Any]:
    """The value of a column for every example, as its file has it, by the line that it was read from.

    Args:
        paths: tables.
        examples_by_path: the examples of each.
        column: its name.
        options: the task's, how tables are read among them.
        flag: the option that names the column, for messages.

    Raises:
        InputError: no such column, or data that is no table of one example a row.
    """
    table = options if isinstance(options, TableOptions) else DEFAULT
    found: list[Any] = []
    for path, examples in zip(paths, examples_by_path, strict=True):
        remedy = f"{flag} is for tables with an example a row"
        if path.is_dir():
            raise InputError(f"{path}: is a folder; {remedy}")
        rows = open_table(path, table)
        if column not in rows.columns:
            raise InputError(f"{path}: {unknown_column(column, rows.columns)} ({flag})")
        values = {row.line: row.values.get(column) for row in rows}
        for example in examples:
            place = parts_of(example).place
            if not isinstance(place, int) or place not in values:
                raise InputError(f"{path}: its examples are not rows of a table; {remedy}")
            found.append(values[place])
    return found


def _quotas(strata: Mapping[str, Sequence[str]], rows_of: Mapping[str, Sequence[int]], share: float) -> dict[str, int]:
    """How many rows of every label to hold out; together the share of all, rounded (largest remainders)."""
    rows = {label: sum(len(rows_of[name]) for name in names) for label, names in strata.items()}
    exact = {label: share * count for label, count in rows.items()}
    quotas = {label: int(value) for label, value in exact.items()}
    spare = round(share * sum(rows.values())) - sum(quotas.values())
    for label in sorted(exact, key=lambda one: (quotas[one] - exact[one], one))[: max(0, spare)]:
        quotas[label] += 1
    return quotas


def _texts(part: ExampleParts) -> str:
    texts = {name: part.texts[name] for name in _TOGETHER if part.texts.get(name)} if _has_question(part) else {}
    return "\x1f".join(" ".join(text.split()).casefold() for text in (texts or part.texts).values())


def _has_question(part: ExampleParts) -> bool:
    return "question" in part.texts


def _labels(parts: Sequence[ExampleParts]) -> list[str]:
    """What is kept in proportion: a row's label, or labels; of numbers their tenths."""
    numbers = [part.number for part in parts]
    if parts and all(number is not None for number in numbers):
        values = np.array(numbers, np.float64)
        edges = np.quantile(values, np.linspace(0, 1, _BINS + 1)[1:-1])
        return [str(bin_) for bin_ in np.searchsorted(edges, values, side="right")]
    return ["\x1f".join(sorted(set(part.labels))) for part in parts]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
