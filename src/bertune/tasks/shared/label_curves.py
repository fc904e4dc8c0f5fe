"""Precision and recall of labels at every threshold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.tasks.row_metrics import Floats

MOST_LABELS = 24
"""Of more than these the commonest are described."""
MOST_POINTS = 41


def commonest(truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """The labels that hold most often, MOST_LABELS at most. Shape: (rows, labels) → (chosen,)."""
    counts = truth.sum(0)
    order = np.argsort(-counts, kind="stable")[:MOST_LABELS]
    return np.asarray(order[counts[order] > 0], np.int64)


def label_curves(
    labels: Sequence[str], probabilities: Floats, truth: npt.NDArray[np.bool_], thresholds: Floats
) -> list[dict[str, Any]]:
    """Of every label the curve of precision and recall, its area (average precision) and the threshold used.

    Args:
        labels: names.
        probabilities: Shape: (rows, labels).
        truth: which labels hold. Shape: (rows, labels).
        thresholds: from which on a label is given. Shape: (labels,).
    """
    return [_curve(name, probabilities[:, i], truth[:, i], float(thresholds[i])) for i, name in enumerate(labels)]


def _curve(label: str, probabilities: Floats, truth: npt.NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")
    right = np.cumsum(truth[order])
    precision, recall = right / np.arange(1, len(right) + 1), right / right[-1]
    ends = np.flatnonzero(np.append(probabilities[order][1:] < probabilities[order][:-1], True))
    average = float((np.diff(np.concatenate([[0.0], recall[ends]])) * precision[ends]).sum())
    shown = ends[np.unique(np.linspace(0, len(ends) - 1, min(MOST_POINTS, len(ends))).astype(int))]
    given = probabilities >= threshold
    both = int((given & truth).sum())
    return {
        "label": label,
        "rows": int(truth.sum()),
        "average_precision": average,
        "threshold": threshold,
        "precision": both / max(1, int(given.sum())),
        "recall": both / int(truth.sum()),
        "curve": [{"recall": float(recall[at]), "precision": float(precision[at])} for at in shown],
    }
