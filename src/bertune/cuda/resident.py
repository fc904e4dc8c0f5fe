"""Features that lie on the device that trains: batches are packed there, from the numbers of their sequences alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.encoder.layout import Layout, to_device
from bertune.features import IGNORED, Column, Features, Ragged
from bertune.network import Batch

_SHARE_OF_MEMORY = 4
"""Features may take one part in so many of the device's free memory."""
_STEPS = 16
"""Sizes of a batch between one power of two and the next: a tail is at most an eighth of it, mostly far less."""
_SMALLEST_STEP = 128
"""Tokens; the products' kernels work in tiles of about so many rows."""


@dataclass(frozen=True)
class Size:
    """What the host must know of a batch that the device packs.

    sequences: how many.  total: rows of the token axis.  least: rows that belong to a sequence, at least.
    """

    sequences: int
    total: int
    least: int


def size_of(lengths: npt.NDArray[np.integer]) -> Size:
    """The size of a batch of sequences of these lengths: its tokens, rounded up to one of few totals."""
    tokens = int(lengths.sum())
    step = max(_SMALLEST_STEP, 2 ** max(0, tokens - 1).bit_length() // _STEPS)
    total = -(-tokens // step) * step
    return Size(len(lengths), total, total - step + 1)


def entries_of(features: Features) -> int:
    """Numbers that would lie on the device."""
    columns = [features.input_ids, features.segment_ids, *features.targets.values()]
    return sum(len(column.values) if isinstance(column, Ragged) else column.size for column in columns)


def fits(entries: int, free: int) -> bool:
    """Whether so many numbers find room in the free bytes of a device, most of which are left to the training."""
    # Targets are widened to 64 bits; counting everything so is on the safe side.
    return 8 * entries <= free // _SHARE_OF_MEMORY


class ResidentFeatures:
    """Features on a device. Equal to `network.pack` but for the length of the tail."""

    def __init__(self, features: Features, device: torch.device) -> None:
        self.features = features
        self._host_lengths = features.input_ids.lengths
        self.longest = int(self._host_lengths.max(initial=1))
        """Tokens of the longest sequence: with it as a bound, all batches of a size look alike to the host."""
        offsets = features.input_ids.offsets
        self._starts = torch.from_numpy(offsets[:-1].copy()).to(device)
        self._lengths = torch.from_numpy(self._host_lengths).to(device)
        self._ids = _values(features.input_ids, offsets).to(device)
        self._segments = _values(features.segment_ids, offsets).to(device)
        self._by_token, self._by_sequence = {}, {}
        for name, column in features.targets.items():
            if isinstance(column, Ragged):
                self._by_token[name] = _values(column, offsets).to(device)
            else:
                self._by_sequence[name] = _wide(column).to(device)

    def rows_of(self, units: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], Size]:
        """The sequences of some units (see `Features.rows_of`), and the size of their batch."""
        rows = self.features.rows_of(units)
        return rows, size_of(self._host_lengths[rows])

    def pack(self, units: npt.NDArray[np.integer]) -> Batch:
        """The units at these places, end to end, with a tail that belongs to no sequence; on the device."""
        rows, size = self.rows_of(units)
        return self.packed(to_device(torch.from_numpy(rows), self._ids.device), size, rows)

    def packed(self, chosen: Tensor, size: Size, rows: npt.NDArray[np.int64]) -> Batch:
        """The sequences whose numbers a tensor on the device holds; nothing here waits for it.

        Args:
            chosen: Shape: (sequences,), int64.
            size: what `rows_of` said of them, or of others of the same size.
            rows: the same numbers on the host, for the batch's record.
        """
        lengths = self._lengths.index_select(0, chosen)
        ends = lengths.cumsum(0)
        starts = ends - lengths
        places = torch.arange(size.total, device=chosen.device)
        inside = places < ends[-1]
        owner = torch.searchsorted(ends, places, right=True).clamp(max=size.sequences - 1)
        within = (places - starts.index_select(0, owner)).masked_fill(~inside, 0)
        first = self._starts.index_select(0, chosen)
        source = (first.index_select(0, owner) + within).masked_fill(~inside, 0)

        def on_token_axis(values: Tensor, fill: int) -> Tensor:
            return values.index_select(0, source).long().masked_fill(~inside, fill)

        targets = {name: on_token_axis(values, IGNORED) for name, values in self._by_token.items()}
        targets |= {name: values.index_select(0, chosen) for name, values in self._by_sequence.items()}
        return Batch(
            on_token_axis(self._ids, 0),
            on_token_axis(self._segments, 0),
            within,
            Layout(lengths, starts, size.total, size.least, self.longest),
            {name: targets[name] for name in self.features.targets},
            rows,
        )


def _values(column: Ragged, offsets: npt.NDArray[np.int64]) -> Tensor:
    """A column of one entry a token."""
    if not np.array_equal(column.offsets, offsets):
        raise ValueError("a column of tokens must have one entry for every token")
    return torch.from_numpy(np.array(column.values))


def _wide(column: Column) -> Tensor:
    """A column of one entry a sequence, in the types that losses take."""
    values = torch.from_numpy(np.array(column))
    return values.float() if values.is_floating_point() else values.long()
