"""Keeps a run within a time limit: plans its updates from what they take, so that the schedule ends in time.

A run has at most as many updates as its options ask for. The first plan comes from an estimate; it is corrected once
when the first updates have been measured, once after the first evaluation, and halfway where there was none until then.
After that it is only ever shortened, when a machine became slower. The learning rate falls to zero at the planned end.
"""

import dataclasses
import logging
import math
from collections import deque
from dataclasses import dataclass, field

from bertune.durations import Clock, duration
from bertune.training.loop.state import TrainConfig, TrainState

logger = logging.getLogger(__name__)

TARGET = 0.98
"""Share of the limit that plans aim at."""
_MEASURED = 10
"""Updates after which the estimate is replaced by what they took; the first also compiles and allocates."""
_RECENT = 30


@dataclass
class TimeBudget:
    """The time of a run.

    clock: of the whole command, started before data were read.
    update, evaluation: seconds of an update, and of an evaluation with all that is written after it; estimates until
        they are measured.
    checkpoint: seconds of writing a checkpoint that follows no evaluation; an estimate at first too.
    earlier: seconds of former sessions of the run.
    """

    clock: Clock
    update: float = 0.0
    evaluation: float = 0.0
    checkpoint: float = 0.0
    earlier: float = 0.0
    _recent: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _updates: int = 0
    _total: float = 0.0
    _evaluations: int = 0
    _checkpoints: int = 0
    _asked: TrainConfig | None = None

    @property
    def left(self) -> float:
        """Seconds until the limit."""
        return self.clock.left - self.earlier

    def plan(self, config: TrainConfig, state: TrainState, per_evaluation: int) -> TrainConfig:
        """The plan to begin or go on with: that of the checkpoint, or a first one.

        Args:
            config: as the options ask for it.
            state: where the run is; the planned updates are kept in it.
            per_evaluation: updates from one evaluation to the next.
        """
        self._asked, self.earlier = config, state.wall_seconds
        if state.planned_steps:
            return self.with_steps(state.planned_steps)
        return self._planned(state, per_evaluation)

    def after_update(self, config: TrainConfig, state: TrainState, seconds: float, per_evaluation: int) -> TrainConfig:
        """The plan after an update that took so many seconds: mostly the one there is."""
        self._updates += 1
        if self._updates > 1:
            self._total += seconds
            self._recent.append(seconds)
            mean = self._total / (self._updates - 1)
            self.update = max(mean, sum(self._recent) / len(self._recent)) if self._updates >= _MEASURED else mean
        if self._updates == _MEASURED and not state.replanned:
            return self._planned(state, per_evaluation)
        corrected = state.replanned or state.replanned_halfway
        if not corrected and self._updates >= _MEASURED and 2 * state.step >= config.steps:
            state.replanned_halfway = True
            return self._planned(state, per_evaluation)
        if self._needed(config.steps - state.step, per_evaluation) > self.left:
            return self._planned(state, per_evaluation, most=config.steps)
        return config

    def after_evaluation(
        self, config: TrainConfig, state: TrainState, seconds: float, per_evaluation: int
    ) -> TrainConfig:
        """The plan after an evaluation that took so many seconds, with what was written."""
        self._evaluations += 1
        self.evaluation = seconds if self._evaluations == 1 else max(self.evaluation, seconds)
        if state.replanned or state.step >= config.steps:
            return config
        state.replanned = True
        return self._planned(state, per_evaluation)

    def after_checkpoint(self, seconds: float) -> None:
        """Count a checkpoint that followed no evaluation and took so many seconds."""
        self._checkpoints += 1
        self.checkpoint = seconds if self._checkpoints == 1 else max(self.checkpoint, seconds)

    @property
    def _each(self) -> float:
        """Seconds of an update, with its share of the checkpoints."""
        assert self._asked is not None
        every = self._asked.checkpoint_every
        return self.update + (self.checkpoint / every if every else 0.0)

    def _needed(self, updates: int, per_evaluation: int) -> float:
        """Seconds of so many updates, the evaluations among them and the one at the end."""
        return updates * self._each + math.ceil(updates / per_evaluation) * self.evaluation

    def _planned(self, state: TrainState, per_evaluation: int, most: int | None = None) -> TrainConfig:
        assert self._asked is not None
        left = self.left - (1 - TARGET) * self.clock.seconds - self.evaluation
        each = self._each + self.evaluation / per_evaluation
        fitting = max(0, math.floor(left / max(each, 1e-9)))
        if fitting < per_evaluation:  # no evaluation before the one at the end
            fitting = max(fitting, min(per_evaluation - 1, math.floor(left / max(self._each, 1e-9))))
        steps = max(1, min(most or self._asked.steps, state.step + max(0, fitting)))
        if steps != state.planned_steps:
            logger.info(
                "%d of %d steps fit into the time left, %s (%.2f s a step, %.1f s an evaluation)",
                steps, self._asked.steps, duration(max(0.0, self.left)), self.update, self.evaluation,
            )  # fmt: skip
        state.planned_steps = steps
        return self.with_steps(steps)

    def with_steps(self, steps: int) -> TrainConfig:
        """The run that was asked for, with its schedule over so many updates."""
        assert self._asked is not None
        schedule = self._asked.schedule
        warmup = round(schedule.warmup * steps / max(1, self._asked.steps))
        return dataclasses.replace(
            self._asked, steps=steps, schedule=dataclasses.replace(schedule, steps=steps, warmup=warmup)
        )
