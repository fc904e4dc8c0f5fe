"""How the tokens of several sequences lie in one flat token axis: packed end to end, or padded to one length.

And where the dropout masks of sequences begin that are known by a number, so that no mask depends on the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

_MASK_OF_A_SEQUENCE = 0x9E3779B1
_MASK_OF_A_HEAD = 0x85EBCA6B
"""As in kernels/c/attention.c."""


@dataclass(frozen=True)
class Layout:
    """Where every sequence of a batch lies. Padding is a property of the layout, not of the modules that use it.

    Sequence i occupies rows `starts[i] : starts[i] + lengths[i]` of the token axis; rows that belong to no sequence
    (padding between sequences, or a tail that rounds the number of rows up) never reach a sequence's result.

    lengths: real tokens of every sequence. Shape: (sequences,), int64, at least 1.
    starts: first row of every sequence. Shape: (sequences,), int64.
    total: rows of the token axis, padding included.
    real: rows that belong to a sequence; where only the device knows, at least so many.
    longest: the greatest length, known on the host so that no kernel launch waits for the device; where only the device
        knows, a bound on it.
    stride: rows from one sequence's start to the next in a padded layout; 0 in a packed one.
    keys: a number of every sequence that dropout draws its masks by; only on the CPU. None: masks follow from the place
        in the batch, and from the generator. Shape: (sequences,), int64.
    """

    lengths: Tensor
    starts: Tensor
    total: int
    real: int
    longest: int
    stride: int = 0
    keys: Tensor | None = None

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

    @cached_property
    def bounds(self) -> Tensor:
        """Where sequences of a packed layout begin and end, the tail cut into more of them: no row is without one.

        Kernels leave rows outside all sequences unwritten, in gradients too. Some of the last may be empty.
        Shape: (sequences + 1 + tails,), int32.
        """
        ends = self.lengths.cumsum(0)
        parts = [torch.zeros_like(ends[:1]), ends]
        if self.real < self.total:
            tails = -(-(self.total - self.real) // self.longest)
            further = torch.arange(1, tails + 1, device=ends.device) * self.longest
            parts.append((ends[-1:] + further).clamp(max=self.total))
        return torch.cat(parts).to(torch.int32)

    @cached_property
    def sequence_masks(self) -> Tensor | None:
        """The number that every sequence's dropout mask begins at (`kernels.calls.Mask`); None without `keys`.

        Multiples of an odd number spread over 32 bits. Of large batches some ranges overlap: a sequence's mask is then
        in part another's, shifted, which does no harm.
        Shape: (sequences,), int64.
        """
        return None if self.keys is None else self.keys * _MASK_OF_A_SEQUENCE

    def row_masks(self, width: int) -> Tensor | None:
        """The same for every row of the token axis, of `width` elements. Shape: (total,), int64."""
        if self.sequence_masks is None:
            return None
        if width not in self._row_masks:
            row = torch.arange(self.total)
            sequence = (torch.searchsorted(self.starts, row, right=True) - 1).clamp(min=0)
            self._row_masks[width] = self.sequence_masks[sequence] + (row - self.starts[sequence]) * width
        return self._row_masks[width]

    @cached_property
    def _row_masks(self) -> dict[int, Tensor]:
        return {}

    def attention_masks(self, heads: int, queries: int) -> Tensor | None:
        """The same for the keys that each of the first queries of every head sees.

        Shape: (sequences, heads, queries), int64.
        """
        if self.sequence_masks is None:
            return None
        of_heads = self.sequence_masks[:, None] + torch.arange(heads) * _MASK_OF_A_HEAD
        return of_heads[:, :, None] + (torch.arange(queries) * self.lengths[:, None])[:, None]

    def mask(self) -> Tensor:
        """True at real tokens of the padded form. Shape: (sequences, longest)."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    def rows(self) -> Tensor:
        """The row of every place of the padded form; places behind a sequence's end point at its first row.

        Shape: (sequences, longest), int64.
        """
        places = torch.arange(self.longest, device=self.lengths.device)
        return self.starts[:, None] + places.expand(len(self), -1).masked_fill(~self.mask(), 0)

    def first_tokens(self, tokens: Tensor) -> Tensor:
        """The first row of every sequence. Shape: (total, …) → (sequences, …)."""
        return tokens[self.starts]

    def sums(self, tokens: Tensor) -> Tensor:
        """The sum of every sequence's rows. Shape: (total, width) → (sequences, width).

        Without gradients it is the same to the bit whatever other sequences there are: the sum over a padded axis
        would be rounded in an order that the longest one's length decides.
        """
        if self.is_packed and tokens.device.type == "cpu" and not torch.is_grad_enabled():
            # `unsafe`: rows behind the last sequence may be there, and recorded passes read no number on the host.
            return torch.segment_reduce(tokens, "sum", lengths=self.lengths, unsafe=True)
        return self.to_padded(tokens).sum(1)

    def means(self, tokens: Tensor) -> Tensor:
        """The mean of every sequence's rows; see `sums`. Shape: (total, width) → (sequences, width)."""
        return self.sums(tokens) / self.lengths[:, None].to(tokens.dtype)

    def places(self) -> tuple[Tensor, Tensor]:
        """The inverse of `rows`: every row's place in the padded form, and whether the row belongs to a sequence.

        Rows that belong to none have a place without meaning. For packed layouts.
        Shape: (total,), int64, and (total,), bool.
        """
        row = torch.arange(self.total, device=self.lengths.device)
        sequence = torch.searchsorted(self.starts, row, right=True) - 1
        offset = row - self.starts[sequence]
        is_real = offset < self.lengths[sequence]
        return sequence * self.longest + offset.masked_fill(~is_real, 0), is_real

    def to_padded(self, tokens: Tensor, fill: float = 0.0) -> Tensor:
        """From the token axis to (sequences, longest, …), `fill` behind every sequence's end.

        Shape: (total, …) → (sequences, longest, …).
        """
        padded = tokens.index_select(0, self.rows().reshape(-1)).view(len(self), self.longest, *tokens.shape[1:])
        mask = self.mask().view(len(self), self.longest, *(1 for _ in tokens.shape[1:]))
        return padded.masked_fill(~mask, fill)

    def from_padded(self, padded: Tensor) -> Tensor:
        """From (sequences, longest, …) back to the token axis; rows of no sequence become zero.

        Shape: (sequences, longest, …) → (total, …).
        """
        # What lies behind a sequence's end goes to a row that is cut off: to leave it out by a mask, the host would
        # have to wait for the device to count.
        rows = self.rows().masked_fill(~self.mask(), self.total).reshape(-1)
        tokens = padded.new_zeros(self.total + 1, *padded.shape[2:])
        return tokens.index_copy(0, rows, padded.reshape(-1, *padded.shape[2:]))[: self.total]

    def to(self, device: torch.device) -> "Layout":
        """The same layout on another device, without `keys`."""
        return Layout(
            to_device(self.lengths, device),
            to_device(self.starts, device),
            self.total,
            self.real,
            self.longest,
            self.stride,
        )


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device; the host does not wait for the copy, which on CUDA takes memory that is pinned.

    Shape: any → the same.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def padded_float32(tokens: Tensor, layout: Layout) -> Tensor:
    """Rows by sequence, in float32; what lies behind a sequence's end is finite and without meaning.

    Shape: (total, width) → (sequences, longest, width).
    """
    if not layout.is_packed:
        return tokens.view(len(layout), layout.stride, -1).float()
    padded: Tensor = _Padded.apply(tokens, layout)  # type: ignore[no-untyped-call]
    return padded


class _Padded(torch.autograd.Function):
    """A gather, and for its gradient another: autograd would scatter, row by row, which is slow on a CPU."""

    @staticmethod
    def forward(ctx, tokens: Tensor, layout: Layout) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.layout, ctx.dtype = layout, tokens.dtype
        rows = layout.rows().reshape(-1)
        return tokens.index_select(0, rows).float().view(len(layout), layout.longest, -1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        layout: Layout = ctx.layout
        places, is_real = layout.places()
        rows = gradient.reshape(-1, gradient.shape[-1]).index_select(0, places)
        if layout.real < layout.total:
            rows = rows.masked_fill(~is_real[:, None], 0.0)
        return rows.to(ctx.dtype), None


def random_bits(starts: Tensor, width: int, seed: int) -> Tensor:
    """What the kernels hash an element's number to (kernels/c/random_mask.h), for rows that begin at these numbers.

    Shape: (…) → (…, width), int32, whose bits are those of an unsigned number.
    """
    x = starts.to(torch.int32)[..., None] + torch.arange(width, dtype=torch.int32)
    x *= _signed(0x9E3779B1)
    x += _signed(seed)
    x ^= (x >> 16) & 0xFFFF
    x *= 0x7FEB352D
    x ^= (x >> 15) & 0x1FFFF
    x ^= _signed(seed >> 32)
    x *= _signed(0x846CA68B)
    x ^= (x >> 16) & 0xFFFF
    return x


def dropout_factors(starts: Tensor, width: int, p: float, seed: int) -> Tensor:
    """What the kernels' dropout multiplies rows by that begin at these numbers. Shape: (…) → (…, width), float32."""
    bits = random_bits(starts, width, seed) ^ -(2**31)  # in the order of signed numbers
    return (bits >= int(p * 2**32) - 2**31).float() * (1 / (1 - p))


def _signed(number: int) -> int:
    """The low 32 bits as a signed number."""
    return (number + 2**31 & 0xFFFFFFFF) - 2**31


class ToHost:
    """A tensor on its way to the host; the one on the device may be overwritten by what is computed next."""

    def __init__(self, tensor: Tensor) -> None:
        self._written: torch.cuda.Event | None = None
        if tensor.device.type != "cuda":
            self._values = tensor.cpu().clone()
            return
        self._values = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        self._values.copy_(tensor, non_blocking=True)
        self._written = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._written.record()

    def read(self) -> Tensor:
        """The tensor on the host; waits until it is there, and for no work that was begun later. Shape: any."""
        if self._written is not None:
            self._written.synchronize()
        return self._values
