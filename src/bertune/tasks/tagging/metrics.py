"""Entity-level precision, recall and f1: an entity counts when its type and both its ends are right.

Source: the definition of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder, 2003) and its `conlleval`; here as
fractions, not per cent.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence


def entity_metrics(
    gold: Sequence[Iterable[tuple[str, Hashable]]], predicted: Sequence[Iterable[tuple[str, Hashable]]]
) -> dict[str, float]:
    """`precision`, `recall`, `f1`, and the same with `_TYPE` behind for every type.

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
    metrics = _scores("", right.total(), found.total(), true.total())
    for label in sorted(true.keys() | found.keys()):
        metrics |= _scores(f"_{label}", right[label], found[label], true[label])
    return metrics


def _scores(suffix: str, right: int, found: int, true: int) -> dict[str, float]:
    return {
        f"precision{suffix}": right / found if found else 0.0,
        f"recall{suffix}": right / true if true else 0.0,
        f"f1{suffix}": 2 * right / (found + true) if found + true else 0.0,
    }
