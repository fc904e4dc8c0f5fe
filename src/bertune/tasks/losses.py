"""Cross-entropy for uneven classes: weights, label smoothing, focal loss."""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from bertune.data.features import IGNORED
from bertune.errors import InputError
from bertune.options import option


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """How classes and easy examples count in training."""

    class_weights: str = option(
        "equal", help="balanced: every class counts alike, however rare", choices=("equal", "balanced")
    )
    label_smoothing: float = option(0.0, help="share of the target that is spread over all classes, from 0 up to 1")
    focal_gamma: float = option(0.0, help="focal loss: how much examples that are already right count less; 0: alike")

    def __post_init__(self) -> None:
        """Refuse impossible numbers.

        Raises:
            InputError: naming the option.
        """
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"--label-smoothing {self.label_smoothing}: must be at least 0 and below 1")
        if not 0 <= self.focal_gamma < float("inf"):
            raise InputError(f"--focal-gamma {self.focal_gamma}: must be at least 0")


def balanced_weights(found: Iterable[Hashable], classes: Sequence[Hashable]) -> tuple[float, ...]:
    """Weights inversely proportional to how often a class occurs, 1 on average over the examples.

    A class that never occurs has weight 1. Source: scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(found)
    total, present = counts.total(), sum(counts[one] > 0 for one in classes)
    return tuple(total / (present * counts[one]) if counts[one] else 1.0 for one in classes)


def cross_entropy(
    logits: Tensor, target: Tensor, options: LossOptions, weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy and what to divide it by: the sum of the targets' weights.

    With focal loss every term is multiplied by (1 - p)^gamma, p the probability of the target (Lin et al., 2017).

    Args:
        logits: Shape: (n, classes).
        target: classes; IGNORED counts nowhere. Shape: (n,).
        options: smoothing and focus.
        weights: one for every class; none: all 1.
    """
    counted = target != IGNORED
    if not weights and not options.focal_gamma:
        loss = F.cross_entropy(
            logits, target, reduction="sum", ignore_index=IGNORED, label_smoothing=options.label_smoothing
        )
        return loss, counted.sum()
    logits, target = logits[counted], target[counted]
    by_class = torch.tensor(weights or [1.0] * logits.shape[1], dtype=logits.dtype, device=logits.device)
    logs = F.log_softmax(logits, 1)
    own = logs.gather(1, target[:, None])[:, 0]
    terms = -by_class[target] * own
    if options.label_smoothing:
        spread = -(logs * by_class).mean(1)
        terms = (1 - options.label_smoothing) * terms + options.label_smoothing * spread
    if options.focal_gamma:
        terms = terms * (1 - own.exp()).clamp(min=0) ** options.focal_gamma
    return terms.sum(), by_class[target].sum()


def binary_cross_entropy(
    logits: Tensor, target: Tensor, options: LossOptions, positive_weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Sigmoid cross-entropy of every label, and the number of its terms; smoothing and focus as in `cross_entropy`.

    Args:
        logits: Shape: (n, labels).
        target: 0 or 1. Shape: (n, labels).
        options: smoothing and focus.
        positive_weights: how much a label's presence counts beside its absence; none: all 1.
    """
    weights = torch.tensor(positive_weights or [1.0] * logits.shape[1], dtype=logits.dtype, device=logits.device)
    smooth = target * (1 - options.label_smoothing) + options.label_smoothing / 2
    terms = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none", pos_weight=weights)
    if options.focal_gamma:
        right = torch.where(target > 0.5, torch.sigmoid(logits), torch.sigmoid(-logits))
        terms = terms * (1 - right).clamp(min=0) ** options.focal_gamma
    return terms.sum(), torch.tensor(terms.numel())
