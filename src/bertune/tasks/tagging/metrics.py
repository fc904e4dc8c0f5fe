"""Entity-level precision, recall and f1: an entity counts when its type and both its ends are right.

Source: the definition of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder, 2003) and its `conlleval`; here as
fractions, not per cent.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

from bertune.tasks.averages import class_metric


def entity_metrics(
    gold: Sequence[Iterable[tuple[str, Hashable]]], predicted: Sequence[Iterable[tuple[str, Hashable]]]
) -> dict[str, float]:
    """`precision`, `recall`, `f1`, and the same for every type (`f1/PER`).

    Args:
        gold: for every text its entities, each a type and a place.
        predicted: likewise.
    """
    right: Counter[str] = Counter()
    found: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for theirs, ours in zip(gold, predicted, strict=True):
        theirs, ours = set(theirs), set(ours)
        true.update(label for label, _ in theirs)
        found.update(label for label, _ in ours)
        right.update(label for label, _ in theirs & ours)
    metrics = _scores(right.total(), found.total(), true.total())
    for label in sorted(true.keys() | found.keys()):
        own = _scores(right[label], found[label], true[label])
        metrics |= {class_metric(name, label): value for name, value in own.items()}
    return metrics


def _scores(right: int, found: int, true: int) -> dict[str, float]:
    return {
        "precision": right / found if found else 0.0,
        "recall": right / true if true else 0.0,
        "f1": 2 * right / (found + true) if found + true else 0.0,
    }
