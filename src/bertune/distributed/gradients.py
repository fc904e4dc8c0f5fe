"""Gradients summed over ranks: dense ones in one flat buffer, those of word tables by their rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bertune.distributed.world import World

_NONE, _SPARSE, _DENSE = 0, 1, 2


def sum_gradients(world: World, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor | None]:
    """The sum of every weight's gradient over ranks, equal bit for bit on all of them.

    A table whose gradient is sparse on all ranks that have one is exchanged by its rows: of BERT's word vectors a step
    touches one or two in a hundred. What no rank has a gradient for stays None. Sums are made in float32.

    Args:
        world: the ranks.
        gradients: of this rank, in the order of the weights; None: none.
        like: the float32 weights, for shapes and devices.
    """
    if world.size == 1 or not like:
        return list(gradients)
    device = like[0].device
    own = [_NONE if one is None else _SPARSE if one.is_sparse else _DENSE for one in gradients]
    kinds = world.most(torch.tensor(own, dtype=torch.int32, device=device)).tolist()
    found: list[Tensor | None] = [None] * len(own)
    dense = [i for i, kind in enumerate(kinds) if kind == _DENSE]
    for i, total in zip(
        dense, _dense_sums(world, [gradients[i] for i in dense], [like[i] for i in dense]), strict=True
    ):
        found[i] = total
    for i, kind in enumerate(kinds):
        if kind == _SPARSE:
            found[i] = _sparse_sum(world, gradients[i], like[i])
    return found


def _dense_sums(world: World, gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> list[Tensor]:
    """One exchange for all: views of one buffer come back."""
    if not like:
        return []
    flat = torch.zeros(sum(one.numel() for one in like), dtype=torch.float32, device=like[0].device)
    views, at = [], 0
    for gradient, weight in zip(gradients, like, strict=True):
        view = flat[at : at + weight.numel()].view_as(weight)
        if gradient is not None:
            view.copy_(gradient.to_dense() if gradient.is_sparse else gradient)
        views.append(view)
        at += weight.numel()
    world.sum(flat)
    return views


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
