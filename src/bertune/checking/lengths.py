"""Lengths of texts in tokens, and what a limit does to them."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.checking.survey import SHOWN
from bertune.tasks.parts import parts_of
from bertune.tasks.protocol import Task
from bertune.tokenization.tokenizer import Tokenizer

SAMPLE = 100_000
"""Examples whose lengths are kept at most; of more, a sample drawn with a fixed seed."""
UNCUT = 1_000_000
"""Tokens that no text has."""
EDGES = (0, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, UNCUT)
"""Borders of the histogram's bars."""
CUT_SHARE = 0.01
"""Share of sequences that a suggested length may cut."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without what tasks say about single batches of examples, up to warnings."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


class LengthSample:
    """Takes lengths of a stream of examples. Beyond SAMPLE, a fair half is kept and every second example looked at.

    limit: the longest sequence that training would see.
    """

    def __init__(self, task: Task[Any], tokenizer: Tokenizer, limit: int) -> None:
        self._task, self._tokenizer, self.limit = task, tokenizer, limit
        self._generator = np.random.default_rng(0)
        self._share = 1.0
        self._parts: list[npt.NDArray[np.int32]] = []
        self._longest: list[tuple[int, int | str]] = []
        self._unknown_places: list[int | str] = []
        self._tokens, self._unknown, self._unknown_rows = 0, 0, 0
        self._cuts: bool | None = None

    def add(self, examples: list[Any]) -> None:
        """The next examples."""
        if self._share < 1:
            chosen = self._generator.random(len(examples)) < self._share
            examples = [example for example, taken in zip(examples, chosen, strict=True) if taken]
        if not examples:
            return
        with quiet():
            features = self._task.featurize(examples, self._tokenizer, UNCUT, purpose="predict")
        lengths = features.input_ids.lengths.astype(np.int32)
        unknown = np.flatnonzero(features.input_ids.values == self._tokenizer.special.unk)
        self._tokens += features.tokens
        self._unknown += len(unknown)
        if len(unknown):
            sequences = np.searchsorted(features.input_ids.offsets, unknown, side="right") - 1
            owners = np.unique(features.example_index[sequences])
            self._unknown_rows += len(owners)
            shown = owners[: SHOWN - len(self._unknown_places)]
            self._unknown_places += [parts_of(examples[owner]).place for owner in shown]
        over = np.flatnonzero(lengths > self.limit)
        if self._cuts is None and len(over):
            self._cuts = self._does_cut([examples[index] for index in np.unique(features.example_index[over])[:64]])
        longest = over[np.argsort(-lengths[over], kind="stable")[:SHOWN]]
        found = [(int(lengths[i]), parts_of(examples[features.example_index[i]]).place) for i in longest]
        self._longest = sorted([*self._longest, *found], key=lambda one: -one[0])[:SHOWN]
        self._parts.append(lengths)
        if sum(map(len, self._parts)) > SAMPLE:
            everything = np.concatenate(self._parts)
            self._parts = [everything[self._generator.random(len(everything)) < 0.5]]
            self._share /= 2

    def _does_cut(self, examples: Sequence[Any]) -> bool:
        """Whether the task cuts texts over the limit, or reads them in windows."""
        with quiet():
            return bool(self._task.featurize(examples, self._tokenizer, self.limit, purpose="predict").cut.any())

    def lengths(self) -> "Lengths":
        """What was taken."""
        values = np.concatenate([np.zeros(0, np.int32), *self._parts])
        return Lengths(
            np.sort(values),
            self.limit,
            self._share == 1,
            self._cuts is not False,
            tuple(self._longest),
            self._unknown / max(1, self._tokens),
            self._unknown_rows,
            tuple(self._unknown_places),
        )


@dataclass(frozen=True)
class Lengths:
    """Tokens of sequences, special ones included, before any cut.

    values: ascending. Shape: (sequences,).
    limit: the longest sequence that training would see.
    complete: whether all sequences were looked at, not a sample.
    cuts: whether what is longer loses text; else it is read in windows.
    longest: the longest ones over the limit: tokens, and place.
    unknown: share of tokens that the vocabulary does not know.
    unknown_rows: how many of the examples that were looked at hold any.  unknown_places: the first of them.
    """

    values: npt.NDArray[np.int32]
    limit: int
    complete: bool
    cuts: bool
    longest: tuple[tuple[int, int | str], ...]
    unknown: float
    unknown_rows: int
    unknown_places: tuple[int | str, ...]

    @property
    def over(self) -> float:
        """Share of sequences over the limit."""
        return float((self.values > self.limit).mean()) if len(self.values) else 0.0

    @property
    def lost(self) -> float:
        """Share of tokens that are cut off."""
        if not self.cuts or not len(self.values):
            return 0.0
        return float(np.maximum(self.values - self.limit, 0).sum() / self.values.sum())

    def quantile(self, share: float) -> int:
        """The length that this share of sequences does not exceed."""
        return int(np.quantile(self.values, share, method="higher")) if len(self.values) else 0

    def histogram(self) -> list[tuple[str, int]]:
        """Sequences by length: "17 to 32" and how many; empty ends are left out."""
        counts = np.histogram(self.values, np.asarray(EDGES) + 1)[0]
        used = np.flatnonzero(counts)
        bars = [
            (f"over {low}" if high == UNCUT else f"{low + 1} to {high}", int(count))
            for low, high, count in zip(EDGES, EDGES[1:], counts, strict=False)
        ]
        return bars[used[0] : used[-1] + 1] if len(used) else []

    def suggested(self, positions: int) -> int:
        """The shortest multiple of 8 that cuts at most CUT_SHARE of the sequences; positions: most that is possible."""
        return max(8, min(-(-self.quantile(1 - CUT_SHARE) // 8) * 8, positions))


def suggested_batch_size(default: int, rows: int, mean_length: float) -> tuple[int, str]:
    """A batch size and why: the task's own, unless data are few or sequences long."""
    size, why = default, "the task's default"
    while size > 8 and rows < 20 * size:
        size, why = size // 2, f"{rows} rows: an epoch then has {-(-rows // (size // 2))} steps"
    while size > 4 and size * mean_length > 16_384:
        size, why = size // 2, f"sequences of {mean_length:.0f} tokens: more at a time take much memory"
    return size, why
