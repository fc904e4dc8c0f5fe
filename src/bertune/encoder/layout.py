"""How the tokens of several sequences lie in one flat token axis: packed end to end, or padded to one length."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Where every sequence of a batch lies. Padding is a property of the layout, not of the modules that use it.

    Sequence i occupies rows `starts[i] : starts[i] + lengths[i]` of the token axis; rows that belong to no sequence
    (padding between sequences, or a tail that rounds the number of rows up) never reach a sequence's result.

    lengths: real tokens of every sequence. Shape: (sequences,), int64, at least 1.
    starts: first row of every sequence. Shape: (sequences,), int64.
    total: rows of the token axis, padding included.
    real: rows that belong to a sequence.
    longest: the greatest length, known on the host so that no kernel launch waits for the device.
    stride: rows from one sequence's start to the next in a padded layout; 0 in a packed one.
    """

    lengths: Tensor
    starts: Tensor
    total: int
    real: int
    longest: int
    stride: int = 0

    @classmethod
    def packed(
        cls, lengths: Sequence[int], *, total: int | None = None, device: torch.device | None = None
    ) -> "Layout":
        """Sequences end to end, without padding, but for a tail when `total` exceeds the sum of the lengths."""
        sizes = torch.as_tensor(lengths, dtype=torch.int64)
        real = int(sizes.sum())
        if total is None:
            total = real
        if total < real:
            raise ValueError(f"a layout of {real} tokens does not fit into {total} rows")
        return cls(
            sizes.to(device),
            (torch.cumsum(sizes, 0) - sizes).to(device),
            total,
            real,
            int(sizes.max()) if len(sizes) else 0,
        )

    @classmethod
    def padded(cls, lengths: Sequence[int], width: int, *, device: torch.device | None = None) -> "Layout":
        """Every sequence padded to `width` rows."""
        sizes = torch.as_tensor(lengths, dtype=torch.int64)
        if len(sizes) and int(sizes.max()) > width:
            raise ValueError(f"a sequence of {int(sizes.max())} tokens does not fit into a width of {width}")
        starts = torch.arange(len(sizes), dtype=torch.int64) * width
        return cls(sizes.to(device), starts.to(device), len(sizes) * width, int(sizes.sum()), width, width)

    @property
    def is_packed(self) -> bool:
        """Whether sequences lie end to end."""
        return self.stride == 0

    def __len__(self) -> int:
        return len(self.lengths)

    def mask(self) -> Tensor:
        """True at real tokens of the padded form. Shape: (sequences, longest)."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    def rows(self) -> Tensor:
        """The row of every place of the padded form; places behind a sequence's end point at its first row.

        Shape: (sequences, longest), int64.
        """
        places = torch.arange(self.longest, device=self.lengths.device)
        return self.starts[:, None] + torch.where(self.mask(), places, 0)

    def to_padded(self, tokens: Tensor, fill: float = 0.0) -> Tensor:
        """From the token axis to (sequences, longest, …), `fill` behind every sequence's end.

        Shape: (total, …) → (sequences, longest, …).
        """
        padded = tokens[self.rows().reshape(-1)].view(len(self), self.longest, *tokens.shape[1:])
        mask = self.mask().view(len(self), self.longest, *(1 for _ in tokens.shape[1:]))
        return padded.masked_fill(~mask, fill)

    def from_padded(self, padded: Tensor) -> Tensor:
        """From (sequences, longest, …) back to the token axis; rows of no sequence become zero.

        Shape: (sequences, longest, …) → (total, …).
        """
        mask = self.mask().reshape(-1)
        flat = padded.reshape(-1, *padded.shape[2:])
        tokens = flat.new_zeros(self.total, *padded.shape[2:])
        return tokens.index_put((self.rows().reshape(-1)[mask],), flat[mask])

    def to(self, device: torch.device) -> "Layout":
        """The same layout on another device."""
        return Layout(
            self.lengths.to(device, non_blocking=True),
            self.starts.to(device, non_blocking=True),
            self.total,
            self.real,
            self.longest,
            self.stride,
        )
