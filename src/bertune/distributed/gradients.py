"""Gradients summed over ranks: through shared memory on one machine's processors, else in one flat buffer.

Of word tables only the rows that occur are exchanged: of BERT's word vectors a step touches one or two in a hundred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bertune.distributed.shared_memory import share_memory
from bertune.distributed.shares import shares_by_cost
from bertune.distributed.world import World

_NONE, _SPARSE, _HALF, _DENSE = 0, 1, 2, 3
"""What a rank has; of several ranks the highest kind is exchanged, which can hold those below it."""

_TYPES = {_HALF: torch.bfloat16, _DENSE: torch.float32}

_CHUNK = 1 << 16
"""Numbers that are added at a time where intermediate sums are in float32: they stay in a core's cache."""


class GradientSums:
    """Sums the gradients of the same weights again and again. All ranks call it together."""

    def __init__(self, world: World, like: Sequence[Tensor]) -> None:
        """Shared memory is taken here, where the ranks can have it.

        Args:
            world: the ranks.
            like: the float32 weights, for shapes and devices.
        """
        self._world, self._like = world, list(like)
        on_cpu = world.size > 1 and all(one.device.type == "cpu" for one in like)
        self._shared = _Shared.open(world, self._like) if on_cpu and like else None

    def __call__(self, gradients: Sequence[Tensor | None], totals: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """The sum of every weight's gradient over ranks, equal bit for bit on all of them.

        What no rank has a gradient for stays None. Sums are made in float32, or rounded once to bfloat16 where the
        gradients are in it, as those of one process are. They are valid until the next call.

        Args:
            gradients: of this rank, in the order of the weights; None: none.
            totals: numbers that are summed along with them. Shape: (n,)

        Returns: gradients and totals.
        """
        if self._world.size == 1:
            return list(gradients), totals
        if self._shared is not None:
            return self._shared.sum(gradients, totals)
        return _sum_by_messages(self._world, gradients, self._like), self._world.sum(totals)


def _kind(gradient: Tensor | None) -> int:
    if gradient is None:
        return _NONE
    return _SPARSE if gradient.is_sparse else _HALF if gradient.dtype == torch.bfloat16 else _DENSE


def _sum_by_messages(world: World, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
    if not like:
        return []
    own = [_kind(one) for one in gradients]
    kinds = world.most(torch.tensor(own, dtype=torch.int32, device=like[0].device)).tolist()
    found: list[Tensor | None] = [None] * len(own)
    for kind, dtype in _TYPES.items():
        at = [i for i in range(len(own)) if kinds[i] == kind]
        sums = _dense_sums(world, [gradients[i] for i in at], [like[i] for i in at], dtype)
        for i, total in zip(at, sums, strict=True):
            found[i] = total
    for i, kind in enumerate(kinds):
        if kind == _SPARSE:
            rows, values = _rows_of(gradients[i], like[i])
            found[i] = _sparse(world.gather_tensors(rows), world.gather_tensors(values), like[i])
    return found


def _dense_sums(
    world: World, gradients: Sequence[Tensor | None], like: Sequence[Tensor], dtype: torch.dtype
) -> list[Tensor]:
    """One exchange for all: views of one buffer come back, in the type of the gradients."""
    if not like:
        return []
    # The sum of two in bfloat16 is rounded once; of more it would be rounded again and again.
    exchanged = dtype if world.size == 2 else torch.float32
    flat = torch.zeros(sum(one.numel() for one in like), dtype=exchanged, device=like[0].device)
    for gradient, view in zip(gradients, _views(flat, like), strict=True):
        if gradient is not None:
            view.copy_(gradient.to_dense() if gradient.is_sparse else gradient)
    return _views(world.sum(flat).to(dtype), like)


def _views(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    sizes = [one.numel() for one in like]
    return [part.view_as(one) for part, one in zip(torch.split(flat, sizes), like, strict=True)]


def _rows_of(gradient: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    if gradient is None:
        rows = torch.zeros(0, dtype=torch.int64, device=like.device)
        return rows, like.new_zeros((0, *like.shape[1:]))
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values().to(like.dtype)


def _sparse(rows: Sequence[Tensor], values: Sequence[Tensor], like: Tensor) -> Tensor:
    """The sum of what every rank has for some rows of a table."""
    every = torch.cat(list(rows))[None]
    return torch.sparse_coo_tensor(every, torch.cat(list(values)), like.shape, check_invariants=False).coalesce()


@dataclass(frozen=True)
class _Shared:
    """Every rank writes its gradients into a region of its own; each sums its share of the weights into the last one.

    regions: of the ranks, then of the sums. Shape: (bytes,) each.
    places: of every weight in a region, in bytes.
    shares, views: what is the same in every update: this rank's share by the gradients' kinds, and places as tensors.
    """

    world: World
    like: list[Tensor]
    regions: tuple[Tensor, ...]
    places: list[int]
    shares: dict[tuple[int, ...], list[int]] = field(default_factory=dict)
    views: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    @classmethod
    def open(cls, world: World, like: list[Tensor]) -> "_Shared | None":
        """Shared memory for the gradients of these weights, where the ranks can have it."""
        places, size = [], 0
        for one in like:
            places.append(size)
            size += -(-4 * one.numel() // 64) * 64  # on a line of the cache
        memory = share_memory(world, size * (world.size + 1))
        return None if memory is None else cls(world, like, torch.split(memory, size), places)

    def sum(self, gradients: Sequence[Tensor | None], totals: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """As `GradientSums`."""
        own = [self._fitting(gradient, like) for gradient, like in zip(gradients, self.like, strict=True)]
        told = [*map(_kind, own), *(one._nnz() if one is not None and one.is_sparse else 0 for one in own)]
        header = torch.cat([totals.double(), torch.tensor(told, dtype=torch.float64)])
        headers = torch.stack(self.world.gather_alike(header))
        count, weights = len(totals), len(own)
        every_kind = headers[:, count : count + weights].int().tolist()
        every_length = headers[:, count + weights :].int().tolist()
        kinds = [max(of_one) for of_one in zip(*every_kind, strict=True)]
        for i, gradient in enumerate(own):
            self._write(i, gradient, kinds[i])
        self.world.wait()
        for i in self._share(tuple(kinds)):
            if kinds[i] in _TYPES:
                having = [rank for rank, of_rank in enumerate(every_kind) if of_rank[i] != _NONE]
                _add([self._dense(rank, i, kinds[i]) for rank in having], self._dense(-1, i, kinds[i]))
        found: list[Tensor | None] = [None] * weights
        for i, kind in enumerate(kinds):
            if kind == _SPARSE:  # by every rank for itself: of the few rows that occur
                parts = [self._rows(rank, i, lengths[i]) for rank, lengths in enumerate(every_length)]
                found[i] = _sparse([rows for rows, _ in parts], [values for _, values in parts], self.like[i])
        self.world.wait()
        for i, kind in enumerate(kinds):
            if kind in _TYPES:
                found[i] = self._dense(-1, i, kind)
        return found, headers[:, :count].sum(0).to(totals.dtype)

    def _share(self, kinds: tuple[int, ...]) -> list[int]:
        """The weights that this rank sums: about as many numbers as every other. kinds: of their gradients."""
        if kinds not in self.shares:
            costs = [one.numel() if kind in _TYPES else 0 for one, kind in zip(self.like, kinds, strict=True)]
            self.shares.clear()
            self.shares[kinds] = shares_by_cost(costs, self.world.size)[self.world.rank].tolist()
        return self.shares[kinds]

    def _fitting(self, gradient: Tensor | None, like: Tensor) -> Tensor | None:
        """A gradient by rows only where these take less room than the whole table."""
        if gradient is None or not gradient.is_sparse:
            return gradient
        gradient = gradient.coalesce()
        width = like[0].numel() if len(like) else 0
        fits = gradient._nnz() * (4 * width + 8) + 8 <= 4 * like.numel()
        return gradient if fits else gradient.to_dense()

    def _write(self, i: int, gradient: Tensor | None, kind: int) -> None:
        if gradient is None:
            return
        if kind == _SPARSE:
            rows, values = self._rows(self.world.rank, i, gradient._nnz())
            rows.copy_(gradient.indices()[0])
            values.copy_(gradient.values())
        else:
            dense = gradient.to_dense() if gradient.is_sparse else gradient
            self._dense(self.world.rank, i, kind).copy_(dense)

    def _dense(self, region: int, i: int, kind: int) -> Tensor:
        """A weight's place in a region. Shape: that of the weight."""
        found = self.views.get((region, i, kind))
        if found is None:
            like, dtype = self.like[i], _TYPES[kind]
            size = like.numel() * dtype.itemsize
            found = self.regions[region][self.places[i] :][:size].view(dtype).view(like.shape)
            self.views[region, i, kind] = found
        return found

    def _rows(self, region: int, i: int, length: int) -> tuple[Tensor, Tensor]:
        """Numbers and values of some rows in a weight's place in a region. Shape: (length,), (length, …)"""
        like, place = self.like[i], self.regions[region][self.places[i] :]
        rows = place[: 8 * length].view(torch.int64)
        size = 4 * length * (like[0].numel() if len(like) else 0)
        return rows, place[8 * length :][:size].view(torch.float32).view(length, *like.shape[1:])


def _add(parts: list[Tensor], total: Tensor) -> None:
    """The sum of some tensors, in the order of the ranks, rounded once. Shape: any, all alike."""
    if len(parts) == 1:
        total.copy_(parts[0])
    elif len(parts) == 2:
        torch.add(parts[0], parts[1], out=total)
    else:
        flat = [part.view(-1) for part in parts]
        for start in range(0, total.numel(), _CHUNK):
            some = flat[0][start : start + _CHUNK].float()
            for other in flat[1:]:
                some = some.add_(other[start : start + _CHUNK])
            total.view(-1)[start : start + _CHUNK] = some
