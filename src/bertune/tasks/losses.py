"""Losses for uneven classes and for examples of uneven difficulty: weights, label smoothing, focal loss.

Every loss here gives the sum of its terms and the number to divide it by. Windows of one long text are terms of their
own where the task says nothing else.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from bertune.data.features import IGNORED
from bertune.errors import InputError, Problems

# Imported from here by task files that models are bound to by their SHA-256, so that their text cannot follow a move.
from bertune.tasks.options import FocusOptions as FocusOptions  # noqa: PLC0414
from bertune.tasks.options import LossOptions as LossOptions  # noqa: PLC0414


def class_weights(
    said: Sequence[str] | None, labels: Sequence[str], balanced: Callable[[], tuple[float, ...]]
) -> tuple[float, ...]:
    """A weight for every label as `--class-weights` says; none at all where nothing is said.

    Args:
        said: the option.
        labels: in the order of the logits.
        balanced: the weights that `balanced` stands for, from the training data.

    Raises:
        InputError: a label that there is none of, weights that are no positive numbers or too few or many.
    """
    if not said:
        return ()
    if list(said) == ["balanced"]:
        return balanced()
    in_order = all(_is_number(part) for part in said)
    known, problems = f"labels in their order: {', '.join(labels)}", Problems()
    if in_order and len(said) != len(labels):
        raise InputError(f"--class-weights: {len(said)} numbers for {len(labels)} {known}")
    weights: dict[str, float] = {}
    pairs = zip(labels, said, strict=True) if in_order else (_label_and_weight(part) for part in said)
    for label, number in pairs:
        weight = float(number) if _is_number(number) else math.nan
        if not 0 < weight < math.inf:
            problems.add(f"--class-weights {label}={number}: expected balanced, or LABEL=WEIGHT with a number above 0")
        elif label not in labels:
            problems.add(f"--class-weights {label}={number}: no such label; {known}")
        elif label in weights:
            problems.add(f"--class-weights {label}={number}: the label has the weight {weights[label]:g} already")
        weights[label] = weight
    problems.raise_if_any()
    return tuple(weights.get(label, 1.0) for label in labels)


def _label_and_weight(part: str) -> tuple[str, str]:
    """`label=weight`; a label may hold = itself."""
    label, equals, weight = part.rpartition("=")
    return (label, weight) if equals else (part, "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def balanced_weights(found: Iterable[Hashable], classes: Sequence[Hashable]) -> tuple[float, ...]:
    """Weights inversely proportional to how often a class occurs, 1 on average over the examples.

    A class that never occurs has weight 1. Source: scikit-learn's `class_weight="balanced"`.
    """
    counts = Counter(found)
    total, present = counts.total(), sum(counts[one] > 0 for one in classes)
    return tuple(total / (present * counts[one]) if counts[one] else 1.0 for one in classes)


def cross_entropy(
    logits: Tensor, target: Tensor, options: FocusOptions, weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy and what to divide it by: the sum of the targets' weights, as PyTorch's mean does.

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
    # What counts nowhere is zeroed, not left out: for that the host would have to wait for the device to count.
    label = target.masked_fill(~counted, 0)
    by_class = _beside(weights or [1.0] * logits.shape[1], logits)
    weight = by_class[label].masked_fill(~counted, 0)
    logs = F.log_softmax(logits, 1)
    own = logs.gather(1, label[:, None])[:, 0]
    terms = _smoothed(-weight * own, -(logs * by_class).mean(1), options).masked_fill(~counted, 0)
    return (terms * _focus(own, options)).sum(), weight.sum()


def _beside(numbers: Sequence[float], tensor: Tensor) -> Tensor:
    """Numbers as a tensor of another's type and device; filled in there, for a copy from the host would wait."""
    if tensor.is_cuda:
        return torch.cat([tensor.new_full((1,), number) for number in numbers])
    return torch.tensor(numbers, dtype=tensor.dtype, device=tensor.device)


def grouped_cross_entropy(scores: Tensor, right: Tensor, group: Tensor, options: FocusOptions) -> tuple[Tensor, Tensor]:
    """Softmax cross-entropy within groups of any size, one term a group; smoothing and focus as in `cross_entropy`.

    Args:
        scores: Shape: (n,).
        right: 1 for the one right member of every group, 0 for the others. Shape: (n,).
        group: from 0, ascending. Shape: (n,).
        options: smoothing and focus.
    """
    groups = int(group[-1]) + 1
    highest = scores.new_full((groups,), -torch.inf).scatter_reduce(0, group, scores.detach(), "amax")
    shifted = scores - highest[group]
    logs = shifted - _sums(shifted.exp(), group, groups).log()[group]
    own = _sums(right.to(scores.dtype) * logs, group, groups)
    spread = -_sums(logs, group, groups) / _sums(torch.ones_like(logs), group, groups)
    terms = _smoothed(-own, spread, options)
    return (terms * _focus(own, options)).sum(), torch.tensor(groups)


def binary_cross_entropy(
    logits: Tensor, target: Tensor, options: FocusOptions, positive_weights: Sequence[float] = ()
) -> tuple[Tensor, Tensor]:
    """Sigmoid cross-entropy of every label, and the number of its terms; smoothing and focus as in `cross_entropy`.

    Args:
        logits: Shape: (n, labels).
        target: 0 or 1. Shape: (n, labels).
        options: smoothing (towards one half) and focus.
        positive_weights: how much a label's presence counts beside its absence; none: all 1.
    """
    weights = _beside(positive_weights, logits) if positive_weights else None
    smooth = target * (1 - options.label_smoothing) + options.label_smoothing / 2
    terms = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none", pos_weight=weights)
    own = F.logsigmoid(torch.where(target > 0.5, logits, -logits))
    return (terms * _focus(own, options)).sum(), torch.tensor(terms.numel())


def mean_of_runs(values: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Values of one owner that follow each other (the windows of a text), averaged.

    Args:
        values: Shape: (n, …).
        owner: equal for the values that belong together. Shape: (n,).

    Returns: the first place of every run, and the runs' means. Shape: (runs,) and (runs, …).
    """
    _, run, sizes = torch.unique_consecutive(owner, return_inverse=True, return_counts=True)
    first = sizes.cumsum(0) - sizes
    totals = values.new_zeros((len(sizes), *values.shape[1:])).index_add(0, run, values)
    return first, totals / sizes.view(-1, *[1] * (values.ndim - 1)).to(values.dtype)


def _sums(values: Tensor, group: Tensor, groups: int) -> Tensor:
    return values.new_zeros(groups).index_add(0, group, values)


def _smoothed(terms: Tensor, spread: Tensor, options: FocusOptions) -> Tensor:
    if not options.label_smoothing:
        return terms
    return (1 - options.label_smoothing) * terms + options.label_smoothing * spread


def _focus(own: Tensor, options: FocusOptions) -> Tensor | float:
    """By what focal loss multiplies terms. own: logarithms of the targets' probabilities."""
    if not options.focal_gamma:
        return 1.0
    # The bound keeps the gradient of a power below 1 finite where the probability is 1.
    wrong = (-torch.expm1(own)).clamp(min=torch.finfo(own.dtype).tiny)
    return wrong**options.focal_gamma
