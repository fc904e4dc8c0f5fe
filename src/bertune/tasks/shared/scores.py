"""Which labels' probabilities a prediction shows: all of a few labels, the best of many."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from bertune.tasks.options import MANY_LABELS, SHOWN_OF_MANY

_NUMBERS_AT_ONCE = 1 << 20
"""Logits whose probabilities are computed at a time: with thousands of labels a row has thousands."""


def blocks_of(logits: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
    """The rows, some at a time, so that memory does not grow with rows times labels. Shape: (rows, labels)."""
    step = max(1, _NUMBERS_AT_ONCE // max(1, logits.shape[1]))
    for start in range(0, len(logits), step):
        yield logits[start : start + step]


def shown_scores(
    labels: Sequence[str],
    probabilities: npt.NDArray[np.float64],
    top_k: int | None,
    *,
    all_scores: bool,
    given: npt.NDArray[np.bool_] | None = None,
) -> list[dict[str, float]]:
    """Probabilities by label, rounded: of all in the labels' order, or of the best, best first.

    Args:
        labels: their names.
        probabilities: Shape: (rows, labels).
        top_k: how many; None: all, or `SHOWN_OF_MANY` where there are more than `MANY_LABELS`.
        all_scores: show all, however many.
        given: labels that are shown whatever their place. Shape: (rows, labels).
    """
    if top_k is None and len(labels) > MANY_LABELS:
        top_k = SHOWN_OF_MANY
    if all_scores or top_k is None or top_k >= len(labels):
        return [{name: round(float(p), 6) for name, p in zip(labels, row, strict=True)} for row in probabilities]
    found = []
    for index, row in enumerate(probabilities):
        best = np.argpartition(-row, top_k - 1)[:top_k]
        if given is not None:
            best = np.union1d(best, np.flatnonzero(given[index]))
        best = best[np.lexsort((best, -row[best]))]
        found.append({labels[i]: round(float(row[i]), 6) for i in best})
    return found
