"""The null threshold to adopt: the one whose answers score best when it is applied, as `decode_answers` applies it."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def best_applied_threshold(odds: Floats, answered: Floats, unanswered: Floats) -> tuple[float, float]:
    """The threshold with the best mean score when every question whose odds are above it is answered with nothing.

    All that a threshold can do is considered, to answer nothing and to answer everything among it; questions of equal
    odds go together. A threshold lies halfway between two questions, or 1 beyond the outermost one. Of equally good
    ones the lowest is taken, which answers least.

    Args:
        odds: of every question the score of "no answer" minus that of its best span. Shape: (questions,).
        answered: what its best span scores; where there is none, what no answer scores. Shape: (questions,).
        unanswered: what no answer scores. Shape: (questions,).

    Returns: the threshold, and the mean score.
    """
    order = np.argsort(odds, kind="stable")
    values, gains = odds[order], (answered - unanswered)[order]
    totals = unanswered.sum() + np.concatenate([[0.0], np.cumsum(gains)])  # [i]: the first i questions are answered
    possible = np.concatenate([[True], values[1:] > values[:-1], [True]])
    best = int(np.where(possible, totals, -np.inf).argmax())
    if best == 0:
        threshold = values[0] - 1.0
    elif best == len(values):
        threshold = values[-1] + 1.0
    else:
        threshold = (values[best - 1] + values[best]) / 2
        if not values[best - 1] <= threshold < values[best]:  # neighbours in floating point
            threshold = values[best - 1]
    return float(threshold), float(totals[best] / len(values))
