"""Evaluations during training, and what follows from them: the best model, an early end, how many steps fit."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from bertune.errors import InputError, Interrupted, counted
from bertune.progress import Bar
from bertune.tables import main_figures
from bertune.tasks.protocol import lower_is_better
from bertune.training.loop.signals import signals_immediate
from bertune.training.loop.state import Evaluation, TrainConfig, TrainingSetup, TrainState

logger = logging.getLogger(__name__)


def steps_per_epoch(sequences: int, batch_size: int) -> int:
    """Updates a pass; the last may be of fewer sequences."""
    return max(1, math.ceil(sequences / batch_size))


class Pace:
    """The numbers that a run goes by: those it began with, or, where its time is limited, those that its budget plans.

    config: the numbers as of now.
    """

    def __init__(self, setup: TrainingSetup, config: TrainConfig, state: TrainState, bar: Bar) -> None:
        self.config = config
        self._setup, self._bar = setup, bar
        self._every = config.check_every or steps_per_epoch(setup.sequences, config.batch_size)
        if setup.budget is not None:
            self._follow(setup.budget.plan(config, state, self._every))

    def check(self, state: TrainState, rewind: Callable[[], None]) -> TrainConfig:
        """Evaluate (see `check` below). Returns: the numbers to go on by."""
        start = time.perf_counter()
        check(self._setup, self.config, state, rewind)
        if self._setup.budget is not None:
            seconds = time.perf_counter() - start
            self._follow(self._setup.budget.after_evaluation(self.config, state, seconds, self._every))
        return self.config

    def after_update(self, state: TrainState, seconds: float) -> TrainConfig:
        """Count an update that took so many seconds. Returns: the numbers to go on by."""
        if self._setup.budget is not None:
            self._follow(self._setup.budget.after_update(self.config, state, seconds, self._every))
        return self.config

    def keep(self, state: TrainState) -> None:
        """Keep a checkpoint between evaluations."""
        start = time.perf_counter()
        self._setup.checkpointer.save_checkpoint(self._setup.optimizer, state)
        if self._setup.budget is not None:
            self._setup.budget.after_checkpoint(time.perf_counter() - start)

    def _follow(self, config: TrainConfig) -> None:
        world, budget = self._setup.world, self._setup.budget
        if world.size > 1 and budget is not None:  # every rank has its own clock: the first one's plan holds
            config = budget.with_steps(int(world.copy_from_first(torch.tensor(config.steps)).item()))
        if config.steps != self.config.steps:
            self._bar.resize(config.steps)
        self.config = config


def check(setup: TrainingSetup, config: TrainConfig, state: TrainState, rewind: Callable[[], None]) -> None:
    """Evaluate, keep the model when it is the best so far, and keep a checkpoint.

    Args:
        setup: network, evaluation, where models and checkpoints are kept.
        config: of the run.
        state: how far the run has come; best metrics and what follows from them are changed.
        rewind: puts the random generators back to where the evaluation began.

    Raises:
        Interrupted: by a signal while it evaluated; a checkpoint is kept whose run begins with this evaluation.
    """
    try:
        if setup.optimizer.average is not None:
            setup.optimizer.average.before_evaluation(state.step)
        with signals_immediate(), setup.optimizer.averaged():
            found = setup.evaluate() if setup.evaluate is not None else Evaluation()
    except Interrupted as error:
        rewind()
        setup.checkpointer.save_checkpoint(setup.optimizer, state)
        error.details.append(kept(config, state))
        raise
    metrics = found.metrics
    if metrics:
        main = main_figures(metrics)
        shown = "  ".join(f"{name} {value:.4f}" for name, value in main.items() if name != "examples_per_second")
        logger.info("step %d of %d: %s", state.step, config.steps, shown)
        setup.checkpointer.curves({f"validation/{name}": value for name, value in main.items()}, state.step)
    was_constant, state.constant_prediction = state.constant_prediction is not None, found.constant_prediction
    if not was_constant:
        state.constant_prediction_since = state.step
    state.correlation = found.correlation
    if is_better(metrics, config.metric, state.best):
        state.best = metrics.get(config.metric) if config.metric else None
        state.best_step, state.without_improvement, state.best_metrics = state.step, 0, metrics
        state.best_constant_prediction = state.constant_prediction
        with setup.optimizer.averaged():
            setup.checkpointer.save_best(weights_of(setup), found)
    else:
        state.without_improvement += 1
        if config.patience is not None and state.without_improvement >= config.patience:
            logger.info("no improvement in %s: stopping early", counted(state.without_improvement, "evaluation"))
            state.finished = True
    state.evaluation_due = False
    setup.checkpointer.save_checkpoint(setup.optimizer, state)


def is_better(metrics: Mapping[str, float], metric: str | None, best: float | None) -> bool:
    """Whether these metrics beat the best so far; without validation the latest model is always the best.

    What is no number (NaN) beats nothing, and any number beats it.

    Raises:
        InputError: a metric that the task does not give.
    """
    if not metrics or metric is None:
        return True
    if metric not in metrics:
        raise InputError(f"--metric {metric}: this task gives {', '.join(metrics)}")
    value = metrics[metric]
    if best is None or math.isnan(best):
        return best is None or not math.isnan(value)
    return value < best if lower_is_better(metric) else value > best


def weights_of(setup: TrainingSetup) -> dict[str, torch.Tensor]:
    """The network's weights by name, the trained ones in full precision. Shape: those of the network."""
    state: dict[str, Any] = dict(setup.network.state_dict())
    return state | setup.optimizer.masters()


def kept(config: TrainConfig, state: TrainState) -> str:
    """What a message says of a run that was stopped."""
    return f"{state.step} of {config.steps} steps are kept in a checkpoint"
