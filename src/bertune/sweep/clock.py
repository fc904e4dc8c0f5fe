"""How long a trial will take, predicted from a batch and corrected by every trial that ends."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SPARE = 1.1
"""Predictions are multiplied by this before something is begun: trials differ in speed by a few per cent."""
_REMEMBERED, MOST_SPARE = 3, 1.5
"""Latest runs that tell how wrong predictions are at present, and what they raise `SPARE` to at most."""


@dataclass
class TimeModel:
    """Seconds of a run with one encoder: `fixed` + epochs · (`rows` / rate + evaluation).

    rows: training sequences.  evaluated: validation sequences.
    probed: whether the speeds are of the probe's one batch, which also warms up caches; a whole run replaces it.
    missed: what runs took, as a multiple of what was predicted for them.
    """

    rows: int
    evaluated: int
    fixed: float = 0.0
    rates: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)
    probed: bool = False
    missed: list[float] = field(default_factory=list)

    @property
    def spare(self) -> float:
        """By what a prediction is multiplied before something is begun: more where the latest runs took longer."""
        return min(MOST_SPARE, max([SPARE, *self.missed[-_REMEMBERED:]]))

    def observe(self, metrics: Mapping[str, float], wall: float, evaluations: int, passes: int = 1) -> None:
        """Learn from the probe, or from a run.

        Args:
            metrics: of the run, with its speeds in sequences/s.
            wall: seconds of its whole process.
            evaluations: that it made; 0 of the probe.
            passes: over every batch.
        """
        if self.probed:
            self.rates, self.evaluations = [], []
        self.probed = evaluations == 0
        self.rates.append(passes * metrics["train_examples_per_second"])
        speed = metrics.get("eval_examples_per_second", 0.0)
        self.evaluations.append(self.evaluated / speed if speed else 0.0)
        rest = wall - metrics["train_seconds"] - evaluations * self.evaluations[-1]
        self.fixed = max(0.0, rest if not self.fixed else (self.fixed + rest) / 2)

    def predict(self, epochs: float, passes: int = 1) -> float:
        """Seconds of a run of so many epochs, with so many passes over every batch."""
        whole = max(1, round(epochs))
        return (
            self.fixed
            + passes * epochs * self.rows / statistics.median(self.rates)
            + whole * statistics.median(self.evaluations)
        )


def behind(rungs: Sequence[float], others: Sequence[Sequence[float]], *, lower: bool) -> bool:
    """Whether a trial's latest evaluation is worse than the median of comparable trials at the same one.

    Args:
        rungs: the metric after each evaluation so far.
        others: those of finished trials of equal encoder and epochs: only they had the same learning rates, as a share
            of their peak, at the same evaluation.
        lower: whether lower is better.

    Returns: False while fewer than four trials can be compared, and at the last evaluation.
    """
    at = len(rungs) - 1
    known = [one[at] for one in others if len(one) > at + 1]
    if at < 0 or len(known) < _FEWEST:
        return False
    middle = statistics.median(known)
    return rungs[at] > middle if lower else rungs[at] < middle


_FEWEST = 4


def comparable(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two settings have evaluations at the same points of the same schedule."""
    return all(one.get(name) == other.get(name) for name in ("encoder", "epochs"))
