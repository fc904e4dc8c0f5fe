"""How much every class counts in training."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

from bertune.data.columns import named
from bertune.errors import InputError, Problems


def class_weights(
    spec: Sequence[str] | None, labels: Sequence[str], balanced: Callable[[], tuple[float, ...]]
) -> tuple[float, ...]:
    """A weight for every label as `--class-weights` says; none at all where nothing is said.

    Args:
        spec: the option.
        labels: in the order of the logits.
        balanced: the weights that `balanced` stands for, from the training data.

    Raises:
        InputError: a label that there is none of, weights that are no positive numbers or too few or many.
    """
    if not spec:
        return ()
    if list(spec) == ["balanced"]:
        return balanced()
    in_order = all(_is_number(part) for part in spec)
    known, problems = f"labels in their order: {named(labels)}", Problems()
    if in_order and len(spec) != len(labels):
        raise InputError(f"--class-weights: {len(spec)} numbers for {len(labels)} {known}")
    weights: dict[str, float] = {}
    pairs = zip(labels, spec, strict=True) if in_order else (_label_and_weight(part) for part in spec)
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
