"""The training loop, one for every task."""

import logging
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertune.data.batching import shuffled_batches
from bertune.errors import InputError, Interrupted
from bertune.progress import Bar, progress_bar
from bertune.tasks.task import lower_is_better
from bertune.training.loop.nonfinite import Made, count_update, tell_skipped
from bertune.training.loop.randomness import bookmark
from bertune.training.loop.signals import asked, at_once, deferred, raise_if_asked, watched
from bertune.training.loop.state import Keeper, Parts, Plan, Progress
from bertune.training.loop.update import Numbers, update

logger = logging.getLogger(__name__)

READ_BEHIND = 16
"""Updates that an accelerator may be ahead of the host before their numbers are read."""


def steps_per_epoch(sequences: int, batch_size: int) -> int:
    """Updates a pass; the last may be of fewer sequences."""
    return max(1, math.ceil(sequences / batch_size))


def fit(parts: Parts, plan: Plan, progress: Progress) -> Progress:
    """Train from `progress` to the plan's last step; `check` after every epoch, or every `check_every` updates.

    SIGINT and SIGTERM let the update at hand finish, or break off an evaluation, and end in a checkpoint.

    Raises:
        InputError: gradients that stay without finite values.
        FaultError: no memory for a single sequence; a checkpoint that cannot be written.
        Interrupted: by a signal; all updates so far are in a checkpoint, if no second signal came.
    """
    with watched(), deferred(), progress_bar("training", plan.steps, done=progress.step) as bar:
        batches = batches_of_epoch(parts, plan, progress.epoch)
        reader = _Reader(parts, plan, bar)
        begun = time.perf_counter() - progress.wall_seconds
        while True:
            if progress.due:
                check(parts, plan, progress)
                raise_if_asked(_kept(plan, progress))
            if progress.finished or progress.step >= plan.steps:
                break
            start = time.perf_counter()
            rows = batches[progress.batch]
            numbers = update(parts, plan, rows, progress)
            progress.step += 1
            progress.batch += 1
            progress.examples += len(rows)
            at_end = progress.batch == len(batches)
            progress.due = at_end if plan.check_every is None else progress.step % plan.check_every == 0
            progress.due = progress.due or progress.step == plan.steps
            keep = asked() or (plan.checkpoint_every is not None and progress.step % plan.checkpoint_every == 0)
            reader.add(Made(progress.step, progress.epoch, rows), numbers)
            began = time.perf_counter()
            progress.seconds += began - start  # before anything is told of it
            reader.read(progress, everything=progress.due or keep)
            progress.seconds += time.perf_counter() - began
            progress.wall_seconds = time.perf_counter() - begun
            if at_end:
                progress.epoch, progress.batch = progress.epoch + 1, 0
                batches = batches_of_epoch(parts, plan, progress.epoch)
            if keep:
                parts.keeper.save_checkpoint(parts.optimizer, progress)
                raise_if_asked(_kept(plan, progress))
        progress.wall_seconds = time.perf_counter() - begun
    tell_skipped(progress)
    return progress


def _kept(plan: Plan, progress: Progress) -> str:
    return f"{progress.step} of {plan.steps} updates are kept in a checkpoint"


class _Reader:
    """Reads what updates came to, a few updates behind on a device that works ahead of the host."""

    def __init__(self, parts: Parts, plan: Plan, bar: Bar) -> None:
        self._parts, self._plan, self._bar = parts, plan, bar
        self._behind = 0 if parts.network.device.type == "cpu" else READ_BEHIND
        self._waiting: deque[tuple[Made, Numbers]] = deque()

    def add(self, made: Made, numbers: Numbers) -> None:
        """One more update, and what it will have come to."""
        self._waiting.append((made, numbers))

    def read(self, progress: Progress, *, everything: bool) -> None:
        """Tell of the updates that are far enough behind, or of all.

        Raises:
            InputError: gradients that stay without finite values.
        """
        while len(self._waiting) > (0 if everything else self._behind):
            made, numbers = self._waiting.popleft()
            loss, norm = numbers.read()
            count_update(self._parts, self._plan, progress, made, (loss, norm))
            _tell(self._parts.keeper, self._bar, progress, self._plan, made.step, loss, norm)


def batches_of_epoch(parts: Parts, plan: Plan, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The batches of an epoch in order, as indices of training sequences."""
    if parts.order is not None:
        return parts.order(epoch)
    return shuffled_batches(
        parts.sequences, plan.batch_size, seed=plan.seed, epoch=epoch, rank=plan.rank, world=plan.world
    )


def check(parts: Parts, plan: Plan, progress: Progress) -> None:
    """Evaluate, keep the model when it is the best so far, and keep a checkpoint.

    Raises:
        Interrupted: by a signal while it evaluated; a checkpoint is kept whose run begins with this evaluation.
    """
    rewind = bookmark()
    try:
        with at_once():
            metrics = parts.evaluate() if parts.evaluate is not None else {}
    except Interrupted as error:
        rewind()
        parts.keeper.save_checkpoint(parts.optimizer, progress)
        error.told.append(_kept(plan, progress))
        raise
    if metrics:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        logger.info("step %d of %d: %s", progress.step, plan.steps, shown)
        parts.keeper.curves({f"validation/{name}": value for name, value in metrics.items()}, progress.step)
    was_alike, progress.alike = progress.alike is not None, parts.same_answer()
    if not was_alike:
        progress.alike_since = progress.step
    progress.correlation = metrics.get("matthews_correlation")
    if is_better(metrics, plan.metric, progress.best):
        progress.best = metrics.get(plan.metric) if plan.metric else None
        progress.best_step, progress.without_improvement, progress.best_metrics = progress.step, 0, metrics
        progress.same_answer = progress.alike
        parts.keeper.save_best(weights_of(parts), metrics)
    else:
        progress.without_improvement += 1
        if plan.patience is not None and progress.without_improvement >= plan.patience:
            logger.info("no improvement in %d evaluations: stopping early", progress.without_improvement)
            progress.finished = True
    progress.due = False
    parts.keeper.save_checkpoint(parts.optimizer, progress)


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


def weights_of(parts: Parts) -> dict[str, torch.Tensor]:
    """The network's weights by name, the trained ones in full precision."""
    state: dict[str, Any] = dict(parts.network.state_dict())
    return state | parts.optimizer.masters()


def _tell(keeper: Keeper, bar: Bar, progress: Progress, plan: Plan, step: int, loss: float, norm: float) -> None:
    rate = progress.examples / max(progress.seconds, 1e-9)
    bar.advance(1, f"loss {loss:.4f}  {rate:.1f} examples/s")
    if step % 10 == 0 or step == plan.steps:
        values = {"train/loss": loss, "train/gradient_norm": norm, "train/learning_rate": plan.schedule(step - 1)}
        keeper.curves(values | {"train/examples_per_second": rate}, step)
