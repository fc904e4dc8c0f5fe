"""Training as google-research/bert's programs do it: a stream of batches, and a run that goes on when started again."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from bertune.checkpoints.names import Rename
from bertune.errors import InputError, Interrupted
from bertune.google.checkpoints import OutputFolder, drops_by_example, load_weights, newest, step_of
from bertune.google.running import EpochFlags, Runtime, TrainFlags
from bertune.google.stream import Buffered, Rows, Shuffled, Stream
from bertune.network import Batch, BatchLoss, Network
from bertune.tensorflow_formats.tensor_bundle import TensorBundle
from bertune.training.launch import HostBatches, TrainingJob, launch
from bertune.training.loop.nonfinite import NonFiniteError
from bertune.training.loop.optimizer import GOOGLE_ADAMW, Schedule
from bertune.training.loop.state import NameRows, TrainConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """The numbers of a training phase. steps, warmup: updates."""

    steps: int
    warmup: int
    flags: TrainFlags


def steps_of(examples: int, flags: TrainFlags, epochs: EpochFlags) -> Training:
    """The original's arithmetic: both numbers are cut down to whole ones.

    Raises:
        InputError: not even one step.
    """
    steps = int(examples / flags.train_batch_size * epochs.num_train_epochs)
    if steps < 1:
        raise InputError(
            f"--train_batch_size={flags.train_batch_size}, --num_train_epochs={epochs.num_train_epochs}: {examples} "
            "examples make no whole training step; take a smaller batch or more epochs"
        )
    return Training(steps, int(steps * epochs.warmup_proportion), flags)


@dataclass(frozen=True)
class TrainingTarget:
    """What is trained.

    names: of all its weights, ours and the original's.  make_batch: sequences → their batch.
    name_rows: where sequences stand in the data, for messages.
    """

    network: Network
    names: Sequence[Rename]
    sequences: int
    make_batch: Callable[[Rows], Batch]
    loss: BatchLoss
    name_rows: NameRows


def train(runtime: Runtime, target: TrainingTarget, training: Training) -> int:
    """Train up to the last step, on from the newest checkpoint of the output folder where there is one.

    Returns: the global step.

    Raises:
        InputError: no finite loss or gradient in many updates in a row.
        FaultError: a checkpoint cannot be written.
        Interrupted: by a signal; the same command goes on.
    """
    flags, network = training.flags, target.network
    folder = Path(flags.output_dir)
    prefix = newest(folder)
    step = load_weights(network, target.names, prefix) if prefix else 0
    if is_finished(folder, training.steps):
        return step
    logger.info("seed %d (the original has none, so its runs differ); --seed takes another", runtime.seed)
    by_example = runtime.device.type == "cpu" and (prefix is None or drops_by_example(prefix))
    output = OutputFolder(
        folder, network, target.names, keep=flags.keep_checkpoint_max, start=(prefix, step), drops_by_example=by_example
    )
    job = _job(runtime, target, training, _stream(runtime, target.sequences, flags.train_batch_size, step))
    job = replace(job, drops_by_example=by_example)
    try:
        state, weights = launch(job, runtime.device, runtime.dtype, output, resume=prefix is not None)
    except Interrupted as error:
        error.details.append("the same command continues from the newest checkpoint")
        raise
    except NonFiniteError as error:
        advice = "try a lower --learning_rate or --precision fp32, and look at those rows"
        raise InputError(error.explain(advice=advice)) from error
    finally:
        output.close()
    rate = state.examples / max(state.seconds, 1e-9)
    logger.info("trained to step %d, %.1f examples/s", state.step, rate)
    masters = {name: tensor.clone() for name, tensor in weights.items()}
    network.encoder.set_compute_dtype(torch.float32)
    network.load_state_dict(masters, strict=False)
    return state.step


def is_finished(folder: Path, steps: int) -> bool:
    """Whether the newest checkpoint of an output folder is at the last step; said where it is so.

    Raises:
        InputError: the checkpoint that the folder names is gone or broken.
    """
    prefix = newest(folder)
    step = step_of(TensorBundle(prefix)) if prefix else 0
    if prefix is None or step < steps:
        return False
    logger.warning("%s is at step %d of %d already: nothing to train", prefix, step, steps)
    return True


def _job(runtime: Runtime, target: TrainingTarget, training: Training, stream: Stream) -> TrainingJob:
    """The launcher's job: the original's optimizer, schedule and order."""
    flags = training.flags

    def make_batch(rows: Rows, at: int) -> Batch:  # noqa: ARG001 (the same in every epoch)
        return target.make_batch(rows)

    def order(at: int) -> list[Rows]:
        """An epoch of the loop is one batch here: the stream knows the real ones.

        Dropout depends on seed and step alone, so a run that goes on equals one that never stopped.
        """
        torch.manual_seed(seed_at(runtime.seed, at))
        return [stream.rows(at)]

    config = TrainConfig(
        steps=training.steps,
        batch_size=flags.train_batch_size,
        accumulation=flags.gradient_accumulation,
        seed=runtime.seed,
        schedule=Schedule(flags.learning_rate, training.steps, training.warmup, google=True),
        patience=None,
        metric=None,
        check_every=flags.save_checkpoints_steps,
    )
    steps = f"{training.steps} steps, {training.warmup} of them warm-up"
    return TrainingJob(
        target.network,
        target.sequences,
        target.loss,
        lambda _: HostBatches(make_batch),
        config,
        adamw=GOOGLE_ADAMW,
        sparse_embeddings=target.network.encoder.embeddings.word.sparse,
        name_rows=target.name_rows,
        order=order,
        announcement=f"training: {steps}, on {runtime.device}",
    )


def seed_at(seed: int, step: int) -> int:
    """A seed for the random numbers of a step."""
    return int(np.random.SeedSequence((seed, step)).generate_state(1)[0])


def _stream(runtime: Runtime, sequences: int, batch_size: int, first: int) -> Stream:
    """The order of training. first: the step that the run begins with."""
    if runtime.strict:
        return Buffered(sequences, batch_size, seed_at(runtime.seed, first), first)
    logger.info("training data are shuffled as a whole (the original: within 100 records)")
    return Shuffled(sequences, batch_size, runtime.seed)


def newest_or_start(network: Network, names: Sequence[Rename], folder: Path) -> int:
    """Load the newest checkpoint of the output folder, where there is one; else the start's weights stay.

    Returns: the global step.
    """
    prefix = newest(folder)
    if prefix is None:
        logger.warning("%s holds no checkpoint: using --init_checkpoint as it is, and new weights for the rest", folder)
        return 0
    logger.info("restoring %s", prefix)
    return load_weights(network, names, prefix)
