"""What a training run is made of: its numbers, its parts, and how far it has come."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch

from bertune.data.features import Batch
from bertune.inference.network import BatchLoss, Network
from bertune.training.loop.optimizer import AdamW, Schedule

if TYPE_CHECKING:
    from bertune.cuda.recorded_updates import RecordedUpdates


@dataclass(frozen=True)
class Plan:
    """The numbers of a run, settled.

    check_every: updates from one evaluation and checkpoint to the next; None: once an epoch.
    checkpoint_every: updates from one checkpoint to the next, besides those of the evaluations; None: those only.
    max_skipped: updates in a row without finite numbers before the run stops.
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
    checkpoint_every: int | None = None
    max_skipped: int = 10
    rank: int = 0
    world: int = 1


@dataclass
class Progress:
    """How far a run has come: all that must survive a stop, besides weights, moments and random generators.

    seed: of this try; another than the options' after a restart.
    same_answer: what the best model answers to every row of the validation data, where that is one thing.
    correlation: Matthews', of the last evaluation, where it gives one.
    alike, alike_since: what the last evaluation's rows were all answered, where that is one thing, and the step from
        which on every evaluation was so.
    skipped, skipped_in_a_row: updates without finite numbers, in all and just now.
    loss, losses: moving mean of the training loss after the warm-up, and of how many updates.
    due: whether the evaluation that follows on the last update is still to come.
    wall_seconds: from the first update on, evaluations and writing included, over all sessions.
    pieces: parts that a batch is computed in because memory was short.
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
    due: bool = False
    seed: int | None = None
    same_answer: str | None = None
    correlation: float | None = None
    alike: str | None = None
    alike_since: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss: float = 0.0
    losses: int = 0
    wall_seconds: float = 0.0
    pieces: int = 1


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


NameRows = Callable[[npt.NDArray[np.int64]], str]
"""Indices of training sequences → where they stand in the data."""


Order = Callable[[int], list[npt.NDArray[np.int64]]]
"""An epoch → its batches, as indices of training sequences."""


def sequence_numbers(rows: npt.NDArray[np.int64]) -> str:
    """Training sequences by their numbers, from 0, where nothing better is known."""
    return f"training sequences {', '.join(str(row) for row in np.sort(rows))}"


@dataclass(frozen=True)
class Parts:
    """What the loop works with, built by its caller.

    sequences: how many there are to train on.  make_batch: lays some of them out, on the network's device or not.
    name_rows: where some of them stand in the data, for messages.
    same_answer: what the last evaluation's rows were all answered, where that is one thing.
    order: batches of an epoch, where they are not the loop's own shuffle.
    graphs: makes updates of a full batch by replaying recorded ones, on CUDA.
    """

    network: Network
    sequences: int
    make_batch: MakeBatch
    loss: BatchLoss
    optimizer: AdamW
    evaluate: Evaluate | None
    keeper: Keeper
    name_rows: NameRows = sequence_numbers
    same_answer: Callable[[], str | None] = lambda: None
    order: Order | None = None
    graphs: "RecordedUpdates | None" = None
