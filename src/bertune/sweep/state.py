"""A sweep at work: what its parts share."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.distributed.world import ALONE, World
from bertune.sweep import journal
from bertune.sweep.clock import MOST_SPARE, TimeModel
from bertune.sweep.options import SweepOptions
from bertune.sweep.space import Space, passes
from bertune.sweep.trials import Trials
from bertune.tasks.protocol import lower_is_better

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

TRIALS = "trials"
"""Folder of the trials that are at work and of the best one."""


@dataclass
class Sweep:
    """A sweep at work.

    began: of `time.monotonic`, earlier sessions counted in.
    world: the ranks that run trials side by side.
    clocks: by encoder, of this rank.
    """

    options: SweepOptions
    trials: Trials
    study: "Study"
    metric: str
    space: Space
    began: float
    world: World = ALONE
    clocks: dict[str, TimeModel] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of the sweep."""
        return Path(self.options.output)

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.began

    @property
    def lower(self) -> bool:
        """Whether a lower metric is better."""
        return lower_is_better(self.metric)

    @property
    def best(self) -> "FrozenTrial | None":
        """The trial with the best value."""
        found = [trial for trial in journal.finished_trials(self.study) if math.isfinite(trial.value or math.nan)]
        if not found:
            return None
        return (min if self.lower else max)(found, key=lambda trial: float(trial.value or 0.0))

    def epochs(self, setting: Mapping[str, Any]) -> float:
        """Passes over the data that a setting makes."""
        return float(self.trials.train_options(setting, Path()).epochs or 0.0)

    def predicted(self, setting: Mapping[str, Any]) -> float:
        """Seconds that a run with this setting should take."""
        clock = self.clocks[setting.get("encoder", self.options.encoders[0])]
        return clock.predict(self.epochs(setting), passes(setting))

    @property
    def rounds(self) -> int:
        """How many of the winner's final runs come one after the other."""
        return -(-self.options.final_seeds // self.world.size)

    def repetition(self, best: "FrozenTrial") -> float:
        """Seconds that training the best trial's setting again should take: what it took, where that was longer.

        But not by more than predictions err, for it may have run on a busy machine, or on another.
        """
        predicted = self.predicted(best.params)
        return max(predicted, min(float(best.user_attrs["seconds"]), MOST_SPARE * predicted))

    def fits(self, setting: Mapping[str, Any]) -> bool:
        """Whether a trial fits into the time that is left, and whoever wins may still be trained on fresh seeds."""
        trial, best = self.predicted(setting), self.best
        winner = max(trial, *map(self.predicted, journal.running_settings(self.study, self.space)),
                     self.repetition(best) if best else 0.0)  # fmt: skip
        spare = max(clock.spare for clock in self.clocks.values())
        return self.elapsed + spare * (trial + self.rounds * winner) <= self.options.seconds
