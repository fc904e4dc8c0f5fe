"""Averages over classes, and names of figures of a single class."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def class_metric(metric: str, label: str) -> str:
    """The name of a metric of one class: `f1/PER`. No label can take the name of an average, such as `f1_macro`."""
    return f"{metric}/{label}"


def macro_mean(scores: Floats, occurs: npt.NDArray[np.bool_]) -> Floats:
    """The mean over the classes that occur in the truth or in the answers, as scikit-learn has it; 0 without any.

    Args:
        scores: Shape: (…, classes).
        occurs: whether a class occurs. Shape: (…, classes).

    Returns: Shape: (…,).
    """
    count = occurs.sum(-1)
    total = np.where(occurs, scores, 0.0).sum(-1)
    result: Floats = np.divide(total, count, out=np.zeros_like(total, np.float64), where=count > 0)
    return result
