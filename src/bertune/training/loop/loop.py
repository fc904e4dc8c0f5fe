"""The training loop, one for every task."""

import logging
import math
import signal
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertune.data.batching import shuffled_batches
from bertune.errors import InputError, Interrupted, counted
from bertune.progress import Bar, progress_bar
from bertune.tables import main_figures
from bertune.tasks.protocol import lower_is_better
from bertune.training.loop.nonfinite import StepRecord, count_update, log_skipped
from bertune.training.loop.signals import (
    raise_if_requested,
    request_stop,
    signals_deferred,
    signals_handled,
    signals_immediate,
    stop_requested,
)
from bertune.training.loop.state import Checkpointer, Evaluation, TrainConfig, TrainingSetup, TrainState
from bertune.training.loop.update import StepMetrics, save_generators, update

logger = logging.getLogger(__name__)

READ_BEHIND = 16
"""Updates that an accelerator may be ahead of the host before their numbers are read."""


def steps_per_epoch(sequences: int, batch_size: int) -> int:
    """Updates a pass; the last may be of fewer sequences."""
    return max(1, math.ceil(sequences / batch_size))


def fit(setup: TrainingSetup, config: TrainConfig, state: TrainState) -> TrainState:
    """Train from `state` to the plan's last step; `check` after every epoch, or every `check_every` updates.

    SIGINT and SIGTERM let the update at hand finish, or break off an evaluation, and end in a checkpoint.

    Raises:
        InputError: gradients that stay without finite values.
        FaultError: no memory for a single sequence; a checkpoint that cannot be written.
        Interrupted: by a signal; all updates so far are in a checkpoint, if no second signal came.
    """
    with signals_handled(), signals_deferred(), progress_bar("training", config.steps, done=state.step) as bar:
        batches = batches_of_epoch(setup, config, state.epoch)
        pace = _Pace(setup, config, state, bar)
        config, reader = pace.config, _Reader(setup, pace, bar)
        begun = time.perf_counter() - state.wall_seconds
        while True:
            if state.evaluation_due:
                config = pace.check(state)
                raise_if_requested(_kept(config, state))
            if state.finished or state.step >= config.steps:
                break
            start = time.perf_counter()
            rows = batches[state.batch]
            numbers = update(setup, config, rows, state)
            if setup.optimizer.average is not None:
                setup.optimizer.average.update()
            state.step += 1
            state.batch += 1
            state.examples += len(rows)
            config = pace.after_update(state, time.perf_counter() - start)
            at_end = state.batch == len(batches)
            state.evaluation_due = at_end if config.check_every is None else state.step % config.check_every == 0
            state.evaluation_due = state.evaluation_due or state.step == config.steps
            if setup.world.any(stop_requested()) and not stop_requested():  # a signal to one rank stops all of them
                request_stop(signal.SIGTERM)
            due = config.checkpoint_every is not None and state.step % config.checkpoint_every == 0
            keep = stop_requested() or due
            reader.add(StepRecord(state.step, state.epoch, rows), numbers)
            began = time.perf_counter()
            state.seconds += began - start  # before anything is told of it
            reader.read(state, everything=state.evaluation_due or keep)
            state.seconds += time.perf_counter() - began
            state.wall_seconds = time.perf_counter() - begun
            if at_end:
                state.epoch, state.batch = state.epoch + 1, 0
                batches = batches_of_epoch(setup, config, state.epoch)
            if keep:
                setup.checkpointer.save_checkpoint(setup.optimizer, state)
                raise_if_requested(_kept(config, state))
        state.wall_seconds = time.perf_counter() - begun
    log_skipped(state)
    return state


def _kept(config: TrainConfig, state: TrainState) -> str:
    return f"{state.step} of {config.steps} steps are kept in a checkpoint"


class _Pace:
    """The numbers that a run goes by: those it began with, or, where its time is limited, those that its budget plans.

    config: the numbers as of now.
    """

    def __init__(self, setup: TrainingSetup, config: TrainConfig, state: TrainState, bar: Bar) -> None:
        self.config = config
        self._setup, self._bar = setup, bar
        self._every = config.check_every or steps_per_epoch(setup.sequences, config.batch_size)
        if setup.budget is not None:
            self._follow(setup.budget.plan(config, state, self._every))

    def check(self, state: TrainState) -> TrainConfig:
        """Evaluate (see `check` below). Returns: the numbers to go on by."""
        start = time.perf_counter()
        check(self._setup, self.config, state)
        if self._setup.budget is not None:
            seconds = time.perf_counter() - start
            self._follow(self._setup.budget.after_evaluation(self.config, state, seconds, self._every))
        return self.config

    def after_update(self, state: TrainState, seconds: float) -> TrainConfig:
        """Count an update that took so many seconds. Returns: the numbers to go on by."""
        if self._setup.budget is not None:
            self._follow(self._setup.budget.after_update(self.config, state, seconds, self._every))
        return self.config

    def _follow(self, config: TrainConfig) -> None:
        world, budget = self._setup.world, self._setup.budget
        if world.size > 1 and budget is not None:  # every rank has its own clock: the first one's plan holds
            config = budget.with_steps(int(world.copy_from_first(torch.tensor(config.steps)).item()))
        if config.steps != self.config.steps:
            self._bar.resize(config.steps)
        self.config = config


class _Reader:
    """Reads what updates came to, a few updates behind on a device that works ahead of the host."""

    def __init__(self, setup: TrainingSetup, pace: "_Pace", bar: Bar) -> None:
        self._setup, self._pace, self._bar = setup, pace, bar
        self._behind = 0 if setup.network.device.type == "cpu" else READ_BEHIND
        self._waiting: deque[tuple[StepRecord, StepMetrics]] = deque()

    def add(self, made: StepRecord, numbers: StepMetrics) -> None:
        """One more update, and what it will have come to."""
        self._waiting.append((made, numbers))

    def read(self, state: TrainState, *, everything: bool) -> None:
        """Tell of the updates that are far enough behind, or of all.

        Raises:
            InputError: gradients that stay without finite values.
        """
        while len(self._waiting) > (0 if everything else self._behind):
            made, numbers = self._waiting.popleft()
            loss, norm = numbers.read()
            config = self._pace.config
            count_update(self._setup, config, state, made, (loss, norm))
            _log_update(self._setup.checkpointer, self._bar, state, config, made.step, loss, norm)


def batches_of_epoch(setup: TrainingSetup, config: TrainConfig, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The batches of an epoch in order, as indices of training sequences."""
    if setup.order is not None:
        return setup.order(epoch)
    return shuffled_batches(setup.sequences, config.batch_size, seed=config.seed, epoch=epoch)


def check(setup: TrainingSetup, config: TrainConfig, state: TrainState) -> None:
    """Evaluate, keep the model when it is the best so far, and keep a checkpoint.

    Raises:
        Interrupted: by a signal while it evaluated; a checkpoint is kept whose run begins with this evaluation.
    """
    rewind = save_generators()
    try:
        if setup.optimizer.average is not None:
            setup.optimizer.average.before_evaluation(state.step)
        with signals_immediate(), setup.optimizer.averaged():
            found = setup.evaluate() if setup.evaluate is not None else Evaluation()
    except Interrupted as error:
        rewind()
        setup.checkpointer.save_checkpoint(setup.optimizer, state)
        error.details.append(_kept(config, state))
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


def _log_update(
    checkpointer: Checkpointer, bar: Bar, state: TrainState, config: TrainConfig, step: int, loss: float, norm: float
) -> None:
    rate = state.examples / max(state.seconds, 1e-9)
    bar.advance(1, f"loss {loss:.4f}  {rate:.1f} examples/s")
    if step % 10 == 0 or step == config.steps:
        values = {"train/loss": loss, "train/gradient_norm": norm, "train/learning_rate": config.schedule(step - 1)}
        checkpointer.curves(values | {"train/examples_per_second": rate}, step)
