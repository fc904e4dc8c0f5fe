"""Entity-level precision, recall and f1: an entity counts when its type and both its ends are right.

Source: the definition of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder, 2003) and its `conlleval`; here as
fractions, not per cent.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from bertune.tasks.row_metrics import Floats, RowMetrics
from bertune.tasks.shared.metrics import f1_scores

Entities = Iterable[tuple[str, Hashable]]
"""Of one text: types and places."""


def entity_metrics(gold: Sequence[Entities], predicted: Sequence[Entities]) -> dict[str, float]:
    """`precision`, `recall`, `f1`, and the same with `_TYPE` behind for every type.

    Args:
        gold: for every text its entities.
        predicted: likewise.
    """
    return entity_rows(gold, predicted).metrics()


def entity_rows(gold: Sequence[Entities], predicted: Sequence[Entities]) -> RowMetrics:
    """The same text by text. A text is right when its entities are."""
    true, found = [set(entities) for entities in gold], [set(entities) for entities in predicted]
    shared = [one & other for one, other in zip(true, found, strict=True)]
    labels = sorted({label for entities in (*true, *found) for label, _ in entities})

    def aggregate(sums: Floats) -> dict[str, Floats]:
        right, given, wanted = np.split(sums, 3, axis=-1)
        metrics = f1_scores(right.sum(-1), given.sum(-1), wanted.sum(-1))
        for i, label in enumerate(labels):
            metrics |= f1_scores(right[..., i], given[..., i], wanted[..., i], f"_{label}")
        return metrics

    statistics = np.concatenate([_counts(some, labels) for some in (shared, found, true)], 1)
    same = np.array([one == other for one, other in zip(true, found, strict=True)], np.bool_)
    return RowMetrics(statistics, aggregate, same)


def _counts(texts: Sequence[set[tuple[str, Hashable]]], labels: Sequence[str]) -> Floats:
    """How many entities of every type each text has. Shape: (texts, labels)."""
    counts = [Counter(label for label, _ in entities) for entities in texts]
    return np.array([[count[label] for label in labels] for count in counts], np.float64).reshape(
        len(texts), len(labels)
    )
