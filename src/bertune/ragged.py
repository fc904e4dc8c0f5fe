"""Ragged columns: many short integer sequences in two flat arrays."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
