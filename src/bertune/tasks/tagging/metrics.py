"""Entity-level precision, recall and f1: an entity counts when its type and both its ends are right.

Source: the definition of the CoNLL-2003 shared task (Tjong Kim Sang & De Meulder, 2003) and its `conlleval`; here as
fractions, not per cent.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertune.tasks.row_metrics import Floats, RowMetrics
from bertune.tasks.shared.metrics import f1_scores

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Entities = Iterable[tuple[str, Hashable]]
"""Of one text: types and places."""


def entity_metrics(gold: Sequence[Entities], predicted: Sequence[Entities]) -> dict[str, float]:
    """`precision`, `recall`, `f1`, and the same for every type (`f1/PER`).

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
            metrics |= f1_scores(right[..., i], given[..., i], wanted[..., i], f"/{label}")
        return metrics

    statistics = _counts((shared, found, true), labels)
    same = np.array([one == other for one, other in zip(true, found, strict=True)], np.bool_)
    return RowMetrics(statistics, aggregate, same)


def _counts(kinds: Sequence[Sequence[set[tuple[str, Hashable]]]], labels: Sequence[str]) -> "csr_array":
    """How many entities of every type each text has, one kind of entities after the other.

    Returns: Shape: (texts, kinds * labels).
    """
    from scipy.sparse import csr_array

    column = {label: i for i, label in enumerate(labels)}
    places = [
        (row, kind * len(labels) + column[label])
        for kind, texts in enumerate(kinds)
        for row, entities in enumerate(texts)
        for label, _ in entities
    ]
    rows, columns = np.array(places, np.int64).reshape(-1, 2).T
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(kinds[0]), len(kinds) * len(labels)))
