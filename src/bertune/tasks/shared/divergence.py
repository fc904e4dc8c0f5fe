"""How far two outputs of a head are apart, as divergences of the probabilities that their logits stand for."""

import torch
from torch import Tensor
from torch.nn import functional as F


def divergence(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(target ‖ logits) of the softmax over the last axis, times T². Shape: (…, classes) both → (…,).

    The factor keeps gradients at their size whatever the temperature (Hinton et al., 2015).
    """
    ours = F.log_softmax(logits / temperature, -1)
    theirs = F.log_softmax(target / temperature, -1)
    return F.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1) * temperature**2


def binary_divergence(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """The same of each label's two outcomes (sigmoid), averaged over labels. Shape: (n, labels) both → (n,)."""
    ours, theirs = logits / temperature, target / temperature
    present = theirs.sigmoid() * (F.logsigmoid(theirs) - F.logsigmoid(ours))
    absent = (-theirs).sigmoid() * (F.logsigmoid(-theirs) - F.logsigmoid(-ours))
    return (present + absent).mean(1) * temperature**2


def padded_groups(scores: Tensor, group: Tensor, sizes: Tensor) -> Tensor:
    """Scores of groups of several sizes, one group a row, -1e4 behind its end.

    Shape: scores and group, ascending from 0, (n,); sizes (groups,) → (groups, largest).
    """
    starts = sizes.cumsum(0) - sizes
    place = torch.arange(len(scores), device=scores.device) - starts[group]
    return scores.new_full((len(sizes), int(sizes.max())), -1e4).index_put((group, place), scores)
