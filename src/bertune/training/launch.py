"""The one launcher: a network, what to train it on and where to keep it become a trained run.

`train`, its seeds and restarts, `pretrain` and the programs of `google/` all end here. Nothing is shared between calls
but what the caller shares: prepared data are values, and every call gets a network of its own.
"""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.distributed.world import current
from bertune.encoder.float32_route import fast_float32, training_route
from bertune.hardware import prepare_process
from bertune.network import Batch, BatchLoss, Network
from bertune.options import AdamWOptions
from bertune.training.loop.loop import fit
from bertune.training.loop.memory import micro_batches_that_fit
from bertune.training.loop.optimizer import AdamW
from bertune.training.loop.regularization import Gradients
from bertune.training.loop.state import (
    Budget,
    Checkpointer,
    Evaluate,
    Evaluation,
    MakeBatch,
    NameRows,
    Order,
    TrainConfig,
    TrainingSetup,
    TrainState,
    sequence_numbers,
)

logger = logging.getLogger(__name__)


class Batches(Protocol):
    """The batches of a run."""

    def make(self, rows: npt.NDArray[np.int64], epoch: int) -> Batch:
        """The batch of the training sequences at these places."""
        ...

    def recorded_updates(self, network: Network, batch_size: int) -> RecordedUpdates | None:
        """What replays updates on these batches, where that is possible."""
        ...


@dataclasses.dataclass(frozen=True)
class HostBatches:
    """Batches that a function makes on the host, anew for every update."""

    make: MakeBatch

    def recorded_updates(self, network: Network, batch_size: int) -> RecordedUpdates | None:  # noqa: ARG002
        """None: the device has not got the data."""
        return None


class Output(Checkpointer, Protocol):
    """The folder of a run."""

    def start(self, optimizer: AdamW, *, resume: bool) -> TrainState:
        """Begin a run, or take up the one that lies here: weights and moments go into the optimizer.

        Raises:
            InputError, FaultError: it cannot.
        """
        ...

    def close(self) -> None:
        """Write what is left of the curves."""
        ...


class Follower:
    """The output of ranks other than 0: they keep nothing."""

    def start(self, optimizer: AdamW, *, resume: bool) -> TrainState:  # noqa: ARG002
        """A new run."""
        return TrainState()

    def save_checkpoint(self, optimizer: AdamW, state: TrainState) -> None:
        """Nothing."""

    def save_best(self, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Nothing. weights: Shape: those of the network."""

    def curves(self, values: Mapping[str, float], step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """What differs from one kind of run to another.

    network: still in float32, on any device.
    sequences: how many there are to train on.
    loss: sum and number of terms, from logits and batch.
    batches: opened once the network lies on its device, whose free memory they may look at.
    config: numbers of the loop.
    evaluate: on validation data, where there are any.
    adamw: the optimizer's numbers.  rates: by what a weight's learning rate is multiplied, from its name.
    sparse_embeddings: whether the word table gets gradients only for the words that occur; not where a head shares it.
    activation_checkpointing: compute activations twice, to save memory.
    longest: tokens of the longest training sequence, where batches are to be divided as memory asks for.
    recordable: whether an update does the same every time, so that a recording may replace it.
    name_rows, order, lengths, divisible, gradients, budget: as `TrainingSetup` takes them.
    weight_average: decay of a moving average of the weights that is evaluated and kept; None: the last weights are.
    drops_by_example: whether dropout follows from the example where it can; not in runs that older versions began.
    last_weights: evaluations whose weights' mean is evaluated and kept; None: no such mean.
    announcement: logged before the first update.
    """

    network: Network
    sequences: int
    loss: BatchLoss
    batches: Callable[[torch.device], Batches]
    config: TrainConfig
    evaluate: Evaluate | None = None
    adamw: AdamWOptions = dataclasses.field(default_factory=AdamWOptions)
    rates: Callable[[str], float] | None = None
    sparse_embeddings: bool = True
    activation_checkpointing: bool = False
    longest: int | None = None
    recordable: bool = False
    name_rows: NameRows = sequence_numbers
    order: Order | None = None
    lengths: npt.NDArray[np.integer] | None = None
    divisible: bool = True
    gradients: Gradients | None = None
    weight_average: float | None = None
    last_weights: int | None = None
    budget: Budget | None = None
    drops_by_example: bool = True
    announcement: str = ""


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What a caller does between the launcher's steps.

    check: once the network is ready and before anything is written.
    on_start: once the run has begun or been taken up, before its first update.
    """

    check: Callable[[], None] = lambda: None
    on_start: Callable[[], None] = lambda: None


class Trained(NamedTuple):
    """What a run came to. weights: the last ones, in float32, by their names in the network."""

    state: TrainState
    weights: dict[str, Tensor]


def launch(
    job: TrainingJob,
    device: torch.device,
    dtype: torch.dtype,
    output: Output,
    *,
    resume: bool = False,
    hooks: Hooks | None = None,
) -> Trained:
    """Train a job up to its last step, from the beginning or the newest checkpoint of its output.

    Args:
        job: what to train, and how.
        device: where to compute.
        dtype: numbers that the encoder's matrices compute in.
        output: keeps checkpoints, the best model, curves.
        resume: go on with the run that lies there.
        hooks: of the caller.

    Returns: how far it came. Where the checkpoint is of another seed than the job's, nothing has been trained.

    Raises:
        InputError: what lies in the output is not this run's; too many updates without finite numbers.
        FaultError: disk or memory gave out; the last checkpoint is kept.
        Interrupted: by a signal; a checkpoint is kept.
    """
    network, config, hooks, world = job.network, job.config, hooks or Hooks(), current()
    prepare_process(device)
    network.to(device)
    network.encoder.embeddings.word.sparse = job.sparse_embeddings and device.type == "cpu"
    network.encoder.activation_checkpointing = job.activation_checkpointing
    optimizer = AdamW(network.named_parameters(), job.adamw, job.rates)  # its masters are the float32 weights of now
    if job.weight_average is not None:
        optimizer.keep_average(job.weight_average)
    elif job.last_weights is not None:
        optimizer.keep_last(job.last_weights)
    network.encoder.set_compute_dtype(dtype)
    hooks.check()
    state = world.agree(output.start(optimizer, resume=resume) if world.is_first else TrainState())
    if world.size > 1:
        optimizer.restore({name: world.copy_from_first(tensor) for name, tensor in optimizer.state().items()})
        output = output if world.is_first else Follower()
    if world.size > 1 and not job.divisible:
        logger.warning("this task's loss compares all rows of a batch, so rank 0 computes it alone")
    state.seed = state.seed if state.step and state.seed is not None else config.seed
    if state.seed != config.seed:
        return Trained(state, optimizer.masters())
    if job.announcement:
        logger.info("%s", job.announcement)
    if job.longest is not None and not state.step:  # a run that goes on keeps the micro-batches it began with
        state.micro_batches = micro_batches_that_fit(network.encoder, device, config.batch_size, job.longest)
    batches = job.batches(device)
    recordable = job.recordable and job.gradients is None and world.size == 1
    setup = TrainingSetup(
        network,
        job.sequences,
        batches.make,
        job.loss,
        optimizer,
        job.evaluate,
        output,
        name_rows=job.name_rows,
        order=job.order,
        graphs=batches.recorded_updates(network, config.batch_size) if recordable else None,
        world=world,
        lengths=job.lengths,
        divisible=job.divisible,
        gradients=job.gradients,
        budget=job.budget,
        drops_by_example=job.drops_by_example and network.drops_by_key,
    )
    state.float32_route = world.agree(training_route(device, state.float32_route))
    with fast_float32(device, state.float32_route):
        hooks.on_start()
        state = fit(setup, config, state)
    output.close()
    return Trained(state, optimizer.masters())
