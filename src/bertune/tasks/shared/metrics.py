"""Metrics that several tasks use, from counts that add up over rows."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertune.tasks.averages import class_metric, macro_mean
from bertune.tasks.row_metrics import Floats, RowMetrics, ratio

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Integers = npt.NDArray[np.integer]


def f1_scores(right: Floats, found: Floats, true: Floats, suffix: str = "") -> dict[str, Floats]:
    """f1, precision and recall from counts of right, found and true ones; 0 where there is nothing to divide by.

    Shape: (…,) each.
    """
    return {
        f"f1{suffix}": ratio(2 * right, found + true),
        f"precision{suffix}": ratio(right, found),
        f"recall{suffix}": ratio(right, true),
    }


def classification_metrics(truth: Integers, predicted: Integers, classes: int) -> dict[str, float]:
    """Metrics of one class a row; see `class_scores`.

    Args:
        truth: Shape: (rows,).
        predicted: Shape: (rows,).
        classes: how many there are.
    """
    counts = [np.bincount(some, minlength=classes) for some in (truth[truth == predicted], predicted, truth)]
    return {name: float(value) for name, value in class_scores(np.concatenate(counts).astype(np.float64)).items()}


def classification_rows(truth: Integers, predicted: Integers, classes: int) -> RowMetrics:
    """The same row by row. Shape: (rows,) each."""
    same = truth == predicted
    rows = np.arange(len(same))
    places = (rows[same], truth[same]), (rows, predicted + classes), (rows, truth + 2 * classes)
    return RowMetrics(_counted(places, (len(same), 3 * classes)), class_scores, same)


def class_scores(sums: Floats) -> dict[str, Floats]:
    """accuracy, f1, precision, recall, matthews_correlation; of two classes those of the second, of more the
    means over the classes that occur in the truth or in the predictions, as in scikit-learn.

    The correlation (Gorodkin, 2004) is 0 where truth or predictions are all of one class.

    Args:
        sums: how often each class was right, then how often predicted, then how often true. Shape: (…, 3 * classes).
    """
    right, found, true = np.split(np.asarray(sums, np.float64), 3, axis=-1)
    count, agreeing = true.sum(-1), right.sum(-1)
    scores = f1_scores(right, found, true)
    binary = right.shape[-1] == 2
    covariance = agreeing * count - (true * found).sum(-1)
    spread = np.sqrt((count**2 - (found**2).sum(-1)) * (count**2 - (true**2).sum(-1)))
    return {
        "accuracy": ratio(agreeing, count),
        **{name: value[..., 1] if binary else macro_mean(value, found + true > 0) for name, value in scores.items()},
        "matthews_correlation": ratio(covariance, spread),
    }


def decision_rows(truth: npt.NDArray[np.bool_], given: npt.NDArray[np.bool_], labels: Sequence[str]) -> RowMetrics:
    """Metrics of any number of labels a row: over all decisions, by label, and rows whose labels are all right.

    Args:
        truth: which labels hold. Shape: (rows, labels).
        given: which are predicted. Shape: (rows, labels).
        labels: their names.
    """
    same = (truth == given).all(1)
    every = np.arange(len(same))
    parts = [(rows, columns + i * len(labels)) for i, (rows, columns) in enumerate(
        map(np.nonzero, (truth & given, given, truth)))]  # fmt: skip
    ends = 3 * len(labels)
    parts += [(every[same], np.full(same.sum(), ends)), (every, np.full(len(same), ends + 1))]

    def aggregate(sums: Floats) -> dict[str, Floats]:
        right, found, true, exact, rows = np.split(sums, np.cumsum([len(labels)] * 3 + [1]), axis=-1)
        by_label = f1_scores(right, found, true)["f1"]
        return {
            **f1_scores(right.sum(-1), found.sum(-1), true.sum(-1)),
            "f1_macro": macro_mean(by_label, found + true > 0),
            "accuracy": ratio(exact[..., 0], rows[..., 0]),
            **{class_metric("f1", label): by_label[..., i] for i, label in enumerate(labels)},
        }

    return RowMetrics(_counted(parts, (len(same), ends + 2)), aggregate, same)


def _counted(places: Iterable[tuple[Integers, Integers]], shape: tuple[int, int]) -> "csr_array":
    """A sparse array of ones at these rows and columns."""
    from scipy.sparse import csr_array

    rows, columns = (np.concatenate(part) for part in zip(*places, strict=True))
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)


def number_rows(truth: Floats, found: Floats) -> RowMetrics:
    """Pearson's and Spearman's correlation, root mean squared and mean absolute error. Shape: (rows,) each."""
    # Around their means, squares and products stay small; a side that does not vary is 0 to the last digit.
    a, b = (side - side.mean() if len(side) and np.ptp(side) else np.zeros_like(side) for side in (truth, found))
    error = truth - found
    statistics = np.stack([np.ones_like(a), a, b, a * a, b * b, a * b, np.square(error), np.abs(error)], 1)

    def aggregate(sums: Floats) -> dict[str, Floats]:
        x, y, xx, yy, xy, squares, errors = np.moveaxis(ratio(sums[..., 1:], sums[..., :1]), -1, 0)
        spread = np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0))
        return {"pearson": ratio(xy - x * y, spread), "rmse": np.sqrt(squares), "mae": errors}

    return RowMetrics(statistics, aggregate, by_rows={"spearman": lambda rows: spearman(rows[:, 1], rows[:, 2])})


def pearson(one: Floats, other: Floats) -> float:
    """Pearson's correlation; 0 where one side does not vary. Shape: (rows,) each."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def spearman(one: Floats, other: Floats) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank. Shape: (rows,) each."""
    return pearson(_ranks(one), _ranks(other))


def _ranks(values: Floats) -> Floats:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = ((2 * last - counts + 1) / 2)[inverse]
    return ranks
