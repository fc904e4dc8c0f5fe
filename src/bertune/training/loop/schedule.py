"""Learning rates over a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak, then linear decay to zero at the last step.

    peak: highest learning rate.  steps: updates of the whole run.  warmup: updates of the warm-up.
    google: google-research/bert's form instead: the decay line starts at step 0, and the k-th update (from 0) reads the
    line at k + 1, as recorded from the original.
    """

    peak: float
    steps: int
    warmup: int
    google: bool = False

    def __call__(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0."""
        if self.google:
            at = step + 1
            return self.peak * (at / self.warmup if at < self.warmup else 1 - min(at, self.steps) / self.steps)
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        return self.peak * max(0.0, (self.steps - step) / max(1, self.steps - self.warmup))
