"""Uncertainty of metrics on a set of rows, and tests whether two sets of answers to them differ.

Sources: Efron & Tibshirani, 1993, "An introduction to the bootstrap", chapters 13 and 16 (percentile intervals,
achieved significance levels); Noreen, 1989, "Computer-intensive methods for testing hypotheses" (approximate
randomization); McNemar, 1947, here with the exact binomial probability.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from bertune.evaluation.outcomes import Outcomes
from bertune.tasks.row_metrics import Floats

_AT_ONCE = 1 << 22
"""Numbers of the largest array of weights."""


def bootstrap(several: Sequence[Outcomes], metric: str, resamples: int, seed: int) -> Floats:
    """A metric of several models on rows drawn again and again with replacement, the same rows for all.

    Shape: (models, resamples).
    """
    rows = len(several[0])
    rng = np.random.default_rng(seed)
    parts = []
    for count in _chunks(resamples, rows):
        drawn = [np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(count)]
        weights = np.stack(drawn).astype(np.float64)
        parts.append(np.stack([one.metric(metric, weights) for one in several]))
    return np.concatenate(parts, 1)


def bootstrap_all(outcomes: Outcomes, metrics: Sequence[str], resamples: int, seed: int) -> dict[str, Floats]:
    """Several metrics of one model on the same resamples of its rows. Shape: (resamples,) each."""
    rows = len(outcomes)
    rng = np.random.default_rng(seed)
    found: dict[str, list[Floats]] = {name: [] for name in metrics}
    for count in _chunks(resamples, rows):
        drawn = [np.bincount(rng.integers(0, rows, rows), minlength=rows) for _ in range(count)]
        for name, values in outcomes.several(metrics, np.stack(drawn).astype(np.float64)).items():
            found[name].append(values)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def interval(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of a bootstrapped figure."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_p(differences: Floats) -> float:
    """Two-sided: how often a bootstrapped difference lies on the other side of 0, twice; never 0 itself."""
    less, more = int((differences <= 0).sum()), int((differences >= 0).sum())
    return min(1.0, 2 * (min(less, more) + 1) / (len(differences) + 1))


def permutation_p(joint: Outcomes, metric: str, resamples: int, seed: int) -> float:
    """How often a difference as large comes about when a coin decides, row by row, which model gave which answer.

    joint: the first model's rows, then the second's. Two-sided.
    """
    rows = len(joint) // 2
    rng = np.random.default_rng((seed, 1))

    def differences(swapped: Floats) -> Floats:
        first, second = (np.concatenate(pair, 1) for pair in ((swapped, 1 - swapped), (1 - swapped, swapped)))
        return joint.metric(metric, first) - joint.metric(metric, second)

    observed = abs(float(differences(np.zeros((1, rows)))[0]))
    larger = 0
    for count in _chunks(resamples, 2 * rows):
        coins = rng.integers(0, 2, (count, rows)).astype(np.float64)
        larger += int((np.abs(differences(coins)) >= observed - 1e-12).sum())
    return (larger + 1) / (resamples + 1)


def mcnemar(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> tuple[int, int, float]:
    """Rows that only one of two models answers rightly, and how likely chance splits them as unevenly.

    Returns: rows that only the first, and only the second answers rightly; the exact two-sided probability.
    """
    first, second = int((one & ~other).sum()), int((~one & other).sum())
    p = float(binomtest(first, first + second).pvalue) if first + second else 1.0
    return first, second, p


def _chunks(resamples: int, rows: int) -> Iterator[int]:
    most = max(1, _AT_ONCE // max(1, rows))
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
