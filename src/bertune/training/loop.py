"""The training loop, one for every task."""

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from bertune.data.batching import shuffled_batches
from bertune.data.features import Batch
from bertune.errors import InputError
from bertune.network import BatchLoss, Network
from bertune.progress import Bar, progress_bar
from bertune.training.optimizer import AdamW, Schedule

logger = logging.getLogger(__name__)

MAX_SKIPPED = 10
"""Updates in a row with a gradient that is not finite before a run stops."""


@dataclass(frozen=True)
class Plan:
    """The numbers of a run, settled.

    check_every: updates from one evaluation and checkpoint to the next; None: once an epoch.
    rank, world: which share of every batch this process computes.
    """

    steps: int
    batch_size: int
    accumulation: int
    seed: int
    schedule: Schedule
    patience: int | None
    metric: str | None
    check_every: int | None = None
    rank: int = 0
    world: int = 1


@dataclass
class Progress:
    """How far a run has come: all that must survive a stop, besides weights, moments and random generators."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    examples: int = 0
    seconds: float = 0.0
    best: float | None = None
    best_step: int = 0
    without_improvement: int = 0
    best_metrics: dict[str, float] = field(default_factory=dict)
    finished: bool = False


class Keeper(Protocol):
    """Where a run is kept: its checkpoints, its best model, its curves."""

    def save_checkpoint(self, optimizer: AdamW, progress: Progress) -> None:
        """Keep what an exact continuation needs."""
        ...

    def save_best(self, weights: Mapping[str, torch.Tensor], metrics: Mapping[str, float]) -> None:
        """Keep this state of the model as the best so far."""
        ...

    def curves(self, values: Mapping[str, float], step: int) -> None:
        """Add points to the curves."""
        ...


Evaluate = Callable[[], dict[str, float]]

MakeBatch = Callable[[npt.NDArray[np.int64], int], Batch]
"""Indices of training sequences and the epoch → their batch. Tasks that mask anew every epoch do so here."""


@dataclass(frozen=True)
class Parts:
    """What the loop works with, built by its caller.

    sequences: how many there are to train on.  make_batch: lays some of them out, on the network's device or not.
    """

    network: Network
    sequences: int
    make_batch: MakeBatch
    loss: BatchLoss
    optimizer: AdamW
    evaluate: Evaluate | None
    keeper: Keeper


def steps_per_epoch(sequences: int, batch_size: int) -> int:
    """Updates a pass; the last may be of fewer sequences."""
    return max(1, math.ceil(sequences / batch_size))


def fit(parts: Parts, plan: Plan, progress: Progress) -> Progress:
    """Train from `progress` to the plan's last step; `check` after every epoch, or every `check_every` updates.

    Raises:
        InputError: gradients that stay without finite values.
    """
    skipped = 0
    batches = _batches(parts, plan, progress.epoch)
    with progress_bar("training", plan.steps, done=progress.step) as bar:
        while progress.step < plan.steps and not progress.finished:
            start = time.perf_counter()
            rows = batches[progress.batch]
            loss, norm = update(parts, plan, rows, progress)
            skipped = 0 if math.isfinite(norm) else skipped + 1
            if skipped:
                _complain(loss, norm, rows, skipped)
            progress.step += 1
            progress.batch += 1
            progress.examples += len(rows)
            progress.seconds += time.perf_counter() - start
            _tell(parts.keeper, bar, progress, plan, {"train/loss": loss, "train/gradient_norm": norm})
            at_end = progress.batch == len(batches)
            if at_end:
                progress.epoch, progress.batch = progress.epoch + 1, 0
                batches = _batches(parts, plan, progress.epoch)
            due = at_end if plan.check_every is None else progress.step % plan.check_every == 0
            if due or progress.step == plan.steps:
                check(parts, plan, progress)
    return progress


def _batches(parts: Parts, plan: Plan, epoch: int) -> list[npt.NDArray[np.int64]]:
    return shuffled_batches(
        parts.sequences, plan.batch_size, seed=plan.seed, epoch=epoch, rank=plan.rank, world=plan.world
    )


def update(parts: Parts, plan: Plan, rows: npt.NDArray[np.int64], progress: Progress) -> tuple[float, float]:
    """One optimizer step on the sequences at `rows`, computed in `plan.accumulation` parts.

    Returns: mean loss and the gradients' norm before clipping.
    """
    parts.network.train()
    total, count = 0.0, 0.0
    pieces = np.array_split(rows, min(plan.accumulation, len(rows)))
    for piece in pieces:
        batch = parts.make_batch(piece, progress.epoch).to(parts.network.device)
        loss, weight = parts.loss(parts.network(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if len(pieces) > 1:
            parts.optimizer.accumulate()
        total, count = total + float(loss.detach()), count + float(weight)
    norm = parts.optimizer.step(plan.schedule(progress.step), scale=1 / max(count, 1.0))
    return total / max(count, 1.0), norm


def check(parts: Parts, plan: Plan, progress: Progress) -> None:
    """Evaluate, keep the model when it is the best so far, and keep a checkpoint."""
    metrics = parts.evaluate() if parts.evaluate is not None else {}
    if metrics:
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        logger.info("step %d of %d: %s", progress.step, plan.steps, shown)
        parts.keeper.curves({f"validation/{name}": value for name, value in metrics.items()}, progress.step)
    if is_better(metrics, plan.metric, progress.best):
        progress.best = metrics.get(plan.metric) if plan.metric else None
        progress.best_step, progress.without_improvement, progress.best_metrics = progress.step, 0, metrics
        parts.keeper.save_best(weights_of(parts), metrics)
    else:
        progress.without_improvement += 1
        if plan.patience is not None and progress.without_improvement >= plan.patience:
            logger.info("no improvement in %d evaluations: stopping early", progress.without_improvement)
            progress.finished = True
    parts.keeper.save_checkpoint(parts.optimizer, progress)


def is_better(metrics: Mapping[str, float], metric: str | None, best: float | None) -> bool:
    """Whether these metrics beat the best so far; without validation the latest model is always the best.

    Raises:
        InputError: a metric that the task does not give.
    """
    if not metrics or metric is None:
        return True
    if metric not in metrics:
        raise InputError(f"--metric {metric}: this task gives {', '.join(metrics)}")
    value = metrics[metric]
    if best is None:
        return True
    return value < best if metric.endswith("loss") else value > best


def weights_of(parts: Parts) -> dict[str, torch.Tensor]:
    """The network's weights by name, the trained ones in full precision."""
    state: dict[str, Any] = dict(parts.network.state_dict())
    return state | parts.optimizer.masters()


def _tell(keeper: Keeper, bar: Bar, progress: Progress, plan: Plan, values: dict[str, float]) -> None:
    rate = progress.examples / progress.seconds
    bar.advance(1, f"loss {values['train/loss']:.4f}  {rate:.1f} examples/s")
    if progress.step % 10 == 0 or progress.step == plan.steps:
        more = {"train/learning_rate": plan.schedule(progress.step - 1), "train/examples_per_second": rate}
        keeper.curves(values | more, progress.step)


def _complain(loss: float, norm: float, rows: npt.NDArray[np.int64], skipped: int) -> None:
    named = ", ".join(str(row) for row in rows[:8]) + (", …" if len(rows) > 8 else "")
    logger.warning("loss %s, gradient norm %s: update skipped; training sequences %s", loss, norm, named)
    if skipped >= MAX_SKIPPED:
        raise InputError(
            f"training: {skipped} updates in a row had no finite gradient; "
            "try a lower --learning-rate or --precision fp32"
        )
