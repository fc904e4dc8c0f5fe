"""How far scores are from how often answers are right."""

import numpy as np
import numpy.typing as npt

from bertune.tasks.row_metrics import Floats

Flags = npt.NDArray[np.bool_]

BINS = 15
"""Bins of equal width for the calibration error (Guo et al., 2017)."""


def bins_of(confidence: Floats, correct: Flags) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and rows of every bin that has rows. Shape: (rows,) each."""
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    found = []
    for index in range(BINS):
        inside = place == index
        if inside.any():
            found.append((float(confidence[inside].mean()), float(correct[inside].mean()), int(inside.sum())))
    return found


def expected_calibration_error(confidence: Floats, correct: Flags) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by their rows. Shape: (rows,) each."""
    total = max(1, len(confidence))
    return float(sum(abs(mean - right) * rows for mean, right, rows in bins_of(confidence, correct)) / total)


def brier(probabilities: Floats, truth: npt.NDArray[np.integer]) -> float:
    """Mean squared distance of probabilities from the truth, summed over outputs. Shape: (rows, outputs), (rows,)."""
    own = probabilities[np.arange(len(truth)), truth]
    squares = np.einsum("ij,ij->i", probabilities, probabilities)
    return float((squares - own**2 + (1 - own) ** 2).mean())


def brier_each(probabilities: Floats, truth: Flags) -> float:
    """The same of independent outputs, each of which holds or not. Shape: (rows, outputs) each."""
    return float(((probabilities - truth) ** 2).sum(1).mean())


def automatic_from(curve: "Coverage", accuracy: float) -> float | None:
    """The lowest score from which on answers are right so often; None where no score is high enough.

    Args:
        curve: as `coverage_curve` gives it.
        accuracy: share of right answers, from 0 to 1.
    """
    return min((score for score, right in curve if right >= accuracy), default=None)


Coverage = tuple[tuple[float, float], ...]
"""Scores, falling, and the accuracy of all answers of at least that score."""

POINTS = 101
"""Of a curve of coverage at most."""


def coverage_curve(confidence: Floats, correct: Flags) -> Coverage:
    """Accuracy of the surest answers alone, by the score from which on they are taken. Shape: (rows,) each.

    A cut lies halfway between two scores, below the lowest at 0: a score that comes out a little otherwise in another
    batch or precision stays on its side.
    """
    scores, ends, right = cuts_of(confidence, correct)
    shown = ends[np.unique(np.linspace(0, len(ends) - 1, min(POINTS, len(ends))).astype(int))] if len(ends) else ends
    below = np.append(scores[1:], -np.inf)
    cuts = np.where(np.isfinite(below), (scores + below) / 2, 0.0)
    return tuple((float(cuts[at]), float(right[at])) for at in shown)


def cuts_of(confidence: Floats, correct: Flags) -> tuple[Floats, npt.NDArray[np.int64], Floats]:
    """Scores, falling; the places among them where a cut parts unequal scores; accuracy up to every place.

    Answers of equal score are taken together: only the last of them is a place to cut. Shape: (rows,) each.
    """
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    scores = confidence[order]
    ends = np.flatnonzero(np.append(scores[1:] != scores[:-1], True)) if len(scores) else np.zeros(0, np.int64)
    return scores, ends, right
