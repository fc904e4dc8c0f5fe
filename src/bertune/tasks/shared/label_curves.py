"""Precision and recall of labels at every threshold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.tasks.row_metrics import Floats

MOST_LABELS = 24
"""Of these the commonest are described."""
MOST_POINTS = 41


def label_curves(
    labels: Sequence[str], probabilities: Floats, truth: npt.NDArray[np.bool_], thresholds: Floats
) -> list[dict[str, Any]]:
    """Of the commonest labels the curve of precision and recall, its area (average precision) and the threshold used.

    Args:
        labels: names.
        probabilities: Shape: (rows, labels).
        truth: which labels hold. Shape: (rows, labels).
        thresholds: from which on a label is given. Shape: (labels,).
    """
    counts = truth.sum(0)
    chosen = [int(i) for i in np.argsort(-counts, kind="stable")[:MOST_LABELS] if counts[i]]
    return [_curve(labels[i], probabilities[:, i], truth[:, i], float(thresholds[i])) for i in chosen]


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
