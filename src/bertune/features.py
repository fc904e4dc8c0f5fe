"""Features: tokenized examples as columns of numbers, many short sequences in flat arrays; without torch."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Sequences of integers end to end: sequence i is `values[offsets[i]:offsets[i + 1]]`.

    values: Shape: (total,), int32.  offsets: Shape: (sequences + 1,), int64, from 0 to total.
    """

    values: IntArray
    offsets: Offsets

    @classmethod
    def from_lists(cls, sequences: Iterable[Sequence[int] | IntArray]) -> "Ragged":
        """Lay sequences end to end."""
        arrays = [np.asarray(sequence, dtype=np.int32) for sequence in sequences]
        return cls.from_lengths(
            np.concatenate(arrays) if arrays else np.zeros(0, np.int32),
            np.array([len(array) for array in arrays], np.int64),
        )

    @classmethod
    def from_lengths(cls, values: IntArray, lengths: npt.NDArray[np.integer]) -> "Ragged":
        """Flat values and the length of every sequence."""
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(values.astype(np.int32, copy=False), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> IntArray:
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Length of every sequence. Shape: (sequences,)."""
        return np.diff(self.offsets)

    def take(self, indices: npt.NDArray[np.integer]) -> "Ragged":
        """The sequences at `indices`, in that order, end to end; it costs the same however many others there are."""
        starts = self.offsets[:-1][indices]
        lengths = self.offsets[1:][indices] - starts
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        positions = np.arange(total, dtype=np.int64) + np.repeat(starts - (ends - lengths), lengths)
        return Ragged.from_lengths(self.values[positions], lengths)


IGNORED = -100
"""Target of tokens that no loss counts, as in PyTorch's cross-entropy."""

Column = npt.NDArray[np.integer] | npt.NDArray[np.floating] | Ragged


@dataclass(frozen=True)
class Features:
    """Tokenized sequences, columnar. One example makes one sequence, or several (windows over a long text).

    input_ids, segment_ids: one entry a token, special tokens included.
    example_index: which example every sequence comes from, ascending. Shape: (sequences,).
    targets: what the loss compares with: arrays of shape (sequences, …), or Ragged with one entry a token.
    cut: whether the sequence lost tokens to the length limit. Shape: (sequences,), bool.
    extras: what the task's decoding needs, in the same forms as targets.
    together: whether all sequences of an example must stand in one batch (the answers to choose from).
    """

    input_ids: Ragged
    segment_ids: Ragged
    example_index: IntArray
    targets: Mapping[str, Column] = field(default_factory=dict)
    cut: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    extras: Mapping[str, Column] = field(default_factory=dict)
    together: bool = False

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def unit_lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of every unit that batches are made of: a sequence, or an example where its sequences go together."""
        lengths = self.input_ids.lengths
        if not self.together:
            return lengths
        return np.bincount(self.example_index, weights=lengths).astype(np.int64)

    def rows_of(self, units: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """The sequences of some units, in order."""
        if not self.together:
            return np.asarray(units, np.int64)
        units = np.asarray(units, self.example_index.dtype)  # of two types, numpy would copy the whole index
        first = np.searchsorted(self.example_index, units, side="left")
        counts = np.searchsorted(self.example_index, units, side="right") - first
        return np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))

    def first(self, count: int) -> "Features":
        """The first `count` sequences, without targets."""
        rows = np.arange(min(count, len(self)))
        return Features(self.input_ids.take(rows), self.segment_ids.take(rows), self.example_index[: len(rows)])

    @property
    def tokens(self) -> int:
        """Tokens of all sequences together."""
        return len(self.input_ids.values)
