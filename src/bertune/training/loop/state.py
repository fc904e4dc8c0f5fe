"""What a training run is made of: its numbers, what it works with, and how far it has come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.distributed.shares import shares_by_cost
from bertune.distributed.world import ALONE, World
from bertune.network import Batch, BatchLoss, Network
from bertune.training.loop.optimizer import AdamW, Schedule
from bertune.training.loop.regularization import Gradients


@dataclass(frozen=True)
class TrainConfig:
    """The numbers of a run, settled.

    check_every: updates from one evaluation and checkpoint to the next; None: once an epoch.
    checkpoint_every: updates from one checkpoint to the next, besides those of the evaluations; None: those only.
    max_skipped: updates in a row without finite numbers before the run stops.
    """

    steps: int
    batch_size: int
    accumulation: int
    seed: int
    schedule: Schedule
    patience: int | None
    metric: str | None
    check_every: int | None = None
    checkpoint_every: int | None = None
    max_skipped: int = 10


@dataclass
class TrainState:
    """How far a run has come: all that must survive a stop, besides weights, moments and random generators.

    A renamed or removed field asks for a new format of checkpoints (`run_folder.checkpoints`).

    seed: of this attempt; another than the options' after a restart.
    best_constant_prediction: what the best model predicts for every row of the validation data, where that is one
        thing.
    correlation: of predictions and truth in the last evaluation, where it gives one.
    constant_prediction, constant_prediction_since: what the last evaluation predicted for every row, where that is one
        thing, and the step since which every evaluation did so.
    skipped, skipped_in_a_row: updates without finite numbers, in all and just now.
    loss, losses: moving mean of the training loss after the warm-up, and of how many updates.
    evaluation_due: whether the evaluation that follows the last update is still to come.
    seconds, wall_seconds: of the updates alone; from the first update on, evaluations and writing included. Both over
        all sessions.
    micro_batches: parts that a batch is computed in because memory was short.
    float32_route: how float32 products are computed (see `encoder.float32_route`); a resumed run keeps it.
    planned_steps, replanned, replanned_halfway: of a run with a time limit, updates as last planned (0: none yet), and
        whether the plan has been corrected after an evaluation, and halfway.
    """

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
    evaluation_due: bool = False
    seed: int | None = None
    best_constant_prediction: str | None = None
    correlation: float | None = None
    constant_prediction: str | None = None
    constant_prediction_since: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss: float = 0.0
    losses: int = 0
    wall_seconds: float = 0.0
    micro_batches: int = 1
    float32_route: str | None = None
    planned_steps: int = 0
    replanned: bool = False
    replanned_halfway: bool = False


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    metrics: by name; empty where nothing is evaluated.
    constant_prediction: what every row was predicted to be, where that is one thing.
    correlation: of predictions and truth, where it is known.
    task: the task with what validation data tuned (thresholds), for the saved model.
    temperatures: by which the saved model's logits are divided; none: they stay as they are.
    logits: of the validation data, so divided, in the order of its features.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    constant_prediction: str | None = None
    correlation: float | None = None
    task: Any = None
    temperatures: tuple[float, ...] = ()
    logits: Any = None


class Budget(Protocol):
    """A limit that decides how many updates a run makes; see `training.loop.budget.TimeBudget`."""

    def plan(self, config: TrainConfig, state: TrainState, per_evaluation: int) -> TrainConfig:
        """The plan to begin or go on with."""
        ...

    def after_update(self, config: TrainConfig, state: TrainState, seconds: float, per_evaluation: int) -> TrainConfig:
        """The plan after an update."""
        ...

    def after_evaluation(
        self, config: TrainConfig, state: TrainState, seconds: float, per_evaluation: int
    ) -> TrainConfig:
        """The plan after an evaluation."""
        ...

    def after_checkpoint(self, seconds: float) -> None:
        """Count a checkpoint that followed no evaluation."""
        ...

    def with_steps(self, steps: int) -> TrainConfig:
        """The run that was asked for, shortened to so many updates."""
        ...


class Checkpointer(Protocol):
    """Where a run is kept: its checkpoints, its best model, its curves."""

    def save_checkpoint(self, optimizer: AdamW, state: TrainState) -> None:
        """Keep what an exact continuation needs."""
        ...

    def save_best(self, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Keep these weights as the best model so far. weights: Shape: those of the network."""
        ...

    def curves(self, values: Mapping[str, float], step: int) -> None:
        """Add points to the curves."""
        ...


Evaluate = Callable[[], Evaluation]

MakeBatch = Callable[[npt.NDArray[np.int64], int], Batch]
"""Indices of training sequences and the epoch → their batch. Tasks that mask anew every epoch do so here."""

NameRows = Callable[[npt.NDArray[np.int64]], str]
"""Indices of training sequences → where they stand in the data."""

Order = Callable[[int], list[npt.NDArray[np.int64]]]
"""An epoch → its batches, as indices of training sequences."""


def sequence_numbers(rows: npt.NDArray[np.int64]) -> str:
    """Training sequences by their numbers, from 0, where nothing better is known."""
    return f"training sequences {', '.join(str(row) for row in np.sort(rows))}"


@dataclass(frozen=True)
class TrainingSetup:
    """What the loop works with, built by its caller.

    sequences: how many there are to train on.  make_batch: packs some of them, on the network's device or not.
    evaluate: on validation data, where there are any.
    name_rows: where some of them stand in the data, for messages.
    order: batches of an epoch, where they are not the loop's own shuffle.
    graphs: makes updates of a full batch by replaying recorded ones, on CUDA.
    world: the ranks that share every batch.
    lengths: tokens of every training sequence, by which ranks share; None: by number.
    divisible: whether a batch's loss is a sum over its sequences; else rank 0 computes it alone.
    gradients: computes a batch's gradients instead of one plain pass (R-Drop, FGM).
    budget: shortens the run where its time is limited.
    drops_by_example: whether dropout follows from seed, step and example, not from rank and place in the batch.
    """

    network: Network
    sequences: int
    make_batch: MakeBatch
    loss: BatchLoss
    optimizer: AdamW
    evaluate: Evaluate | None
    checkpointer: Checkpointer
    name_rows: NameRows = sequence_numbers
    order: Order | None = None
    graphs: RecordedUpdates | None = None
    world: World = ALONE
    lengths: npt.NDArray[np.integer] | None = None
    divisible: bool = True
    gradients: Gradients | None = None
    budget: Budget | None = None
    drops_by_example: bool = False

    def share(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Those of a batch's sequences that this rank computes: about as many tokens as every other. May be none.

        Shape: (batch,) → (share,).
        """
        if self.world.size == 1:
            return rows
        if not self.divisible:
            return rows if self.world.is_first else rows[:0]
        costs = self.lengths[rows] if self.lengths is not None else np.ones(len(rows), np.int64)
        return rows[shares_by_cost(costs, self.world.size)[self.world.rank]]
