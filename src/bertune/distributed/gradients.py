"""Gradients summed over ranks: dense ones in one flat buffer, those of word tables by their rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bertune.distributed.world import World

_NONE, _SPARSE, _HALF, _DENSE = 0, 1, 2, 3
"""What a rank has; of several ranks the highest kind is exchanged, which can hold those below it."""


def sum_gradients(world: World, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
    """The sum of every weight's gradient over ranks, equal bit for bit on all of them.

    A table whose gradient is sparse on all ranks that have one is exchanged by its rows: of BERT's word vectors a step
    touches one or two in a hundred. What no rank has a gradient for stays None. Sums are made in float32, or rounded
    once to bfloat16 where the gradients are in it, as those of one process are.

    Args:
        world: the ranks.
        gradients: of this rank, in the order of the weights; None: none.
        like: the float32 weights, for shapes and devices.
    """
    if world.size == 1 or not like:
        return list(gradients)
    device = like[0].device
    own = [_kind(one) for one in gradients]
    kinds = world.most(torch.tensor(own, dtype=torch.int32, device=device)).tolist()
    found: list[Tensor | None] = [None] * len(own)
    for dtype, kind in ((torch.float32, _DENSE), (torch.bfloat16, _HALF)):
        at = [i for i in range(len(own)) if kinds[i] == kind]
        sums = _dense_sums(world, [gradients[i] for i in at], [like[i] for i in at], dtype)
        for i, total in zip(at, sums, strict=True):
            found[i] = total
    for i, kind in enumerate(kinds):
        if kind == _SPARSE:
            found[i] = _sparse_sum(world, gradients[i], like[i])
    return found


def _kind(gradient: Tensor | None) -> int:
    if gradient is None:
        return _NONE
    return _SPARSE if gradient.is_sparse else _HALF if gradient.dtype == torch.bfloat16 else _DENSE


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


def _sparse_sum(world: World, gradient: Tensor | None, like: Tensor) -> Tensor:
    if gradient is None:
        rows = torch.zeros(0, dtype=torch.int64, device=like.device)
        values = like.new_zeros((0, *like.shape[1:]))
    else:
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values().to(like.dtype)
    all_rows = torch.cat(world.gather_tensors(rows))
    all_values = torch.cat(world.gather_tensors(values))
    return torch.sparse_coo_tensor(all_rows[None], all_values, like.shape, check_invariants=False).coalesce()
