"""The training loop, one for every task, and one update: its batch, the gradients of it, the optimizer's step."""

import functools
import logging
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.cuda.recording import recorder_for
from bertune.cuda.resident import ResidentFeatures, entries_of, fits
from bertune.data.batching import shuffled_batches
from bertune.encoder.layout import ToHost
from bertune.errors import FaultError
from bertune.features import Features
from bertune.network import Batch, Network, pack
from bertune.progress import Bar, progress_bar
from bertune.training.loop.memory import free_memory, is_out_of_memory
from bertune.training.loop.nonfinite import StepRecord, count_update, log_skipped
from bertune.training.loop.signals import (
    raise_if_requested,
    request_stop,
    signals_deferred,
    signals_handled,
    stop_requested,
)
from bertune.training.loop.state import Checkpointer, TrainConfig, TrainingSetup, TrainState
from bertune.training.loop.validation import Pace, kept

logger = logging.getLogger(__name__)

READ_BEHIND = 16
"""Updates that an accelerator may be ahead of the host before their numbers are read."""


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
        pace = Pace(setup, config, state, bar)
        config, reader = pace.config, _Reader(setup, pace, bar)
        begun = time.perf_counter() - state.wall_seconds
        while True:
            if state.evaluation_due:
                config = pace.check(state, save_generators())
                raise_if_requested(kept(config, state))
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
                pace.keep(state)
                raise_if_requested(kept(config, state))
        state.wall_seconds = time.perf_counter() - begun
    log_skipped(state)
    return state


class _Reader:
    """Reads what updates came to, a few updates behind on a device that works ahead of the host."""

    def __init__(self, setup: TrainingSetup, pace: Pace, bar: Bar) -> None:
        self._setup, self._pace, self._bar = setup, pace, bar
        self._behind = 0 if setup.network.device.type == "cpu" else READ_BEHIND
        self._waiting: deque[tuple[StepRecord, StepMetrics]] = deque()

    def add(self, made: StepRecord, numbers: "StepMetrics") -> None:
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


def _log_update(
    checkpointer: Checkpointer, bar: Bar, state: TrainState, config: TrainConfig, step: int, loss: float, norm: float
) -> None:
    rate = state.examples / max(state.seconds, 1e-9)
    bar.advance(1, f"loss {loss:.4f}  {rate:.1f} examples/s")
    if step % 10 == 0 or step == config.steps:
        values = {"train/loss": loss, "train/gradient_norm": norm, "train/learning_rate": config.schedule(step - 1)}
        checkpointer.curves(values | {"train/examples_per_second": rate}, step)


class TrainingBatches:
    """Makes a run's batches; on CUDA the features are moved to the device, where they fit."""

    def __init__(self, features: Features, device: torch.device) -> None:
        """Nothing is moved yet.

        Args:
            features: of all training data.
            device: that trains.
        """
        self._features, self._device = features, device
        free = free_memory(device) if device.type == "cuda" else None
        # Decided once: the length of a batch's tail depends on it, and random numbers on that.
        self._fits = free is not None and fits(entries_of(features), free)

    def make(self, units: npt.NDArray[np.int64], epoch: int) -> Batch:  # noqa: ARG002 (the same in every epoch)
        """The batch of the units at these places."""
        resident = self.resident
        return pack(self._features, units) if resident is None else resident.pack(units)

    @functools.cached_property
    def resident(self) -> ResidentFeatures | None:
        """All features in the device's memory; None where they are not to be moved there."""
        return ResidentFeatures(self._features, self._device) if self._fits else None

    def recorded_updates(self, network: Network, batch_size: int) -> RecordedUpdates | None:
        """What records updates on these batches as CUDA graphs.

        None but on CUDA, with BERTUNE_CUDA_GRAPHS=off, and where activations are computed twice, which restores random
        generators midway.
        """
        recorder = None if network.encoder.activation_checkpointing else recorder_for(self._device)
        return None if recorder is None else RecordedUpdates(lambda: self.resident, recorder, batch_size)


@dataclass(frozen=True)
class StepMetrics:
    """Loss and gradient norm of an update; on CUDA they are on their way to the host while later updates run.

    values: the mean loss over the batch, and the gradients' norm before clipping; not finite: nothing was updated.
        Shape: (2,)
    """

    values: ToHost

    def read(self) -> tuple[float, float]:
        """Loss and norm; waits until this update, and no later one, is done."""
        loss, norm = self.values.read().tolist()
        return loss, norm


def update(setup: TrainingSetup, config: TrainConfig, rows: npt.NDArray[np.int64], state: TrainState) -> StepMetrics:
    """One optimizer step on the sequences at `rows`, computed at once or in micro-batches.

    When memory runs out the update begins anew in twice as many micro-batches, random numbers included, and the run
    goes on with so many.

    Args:
        setup: network, loss, optimizer.
        config: of the run.
        rows: places of the training sequences. Shape: (batch,).
        state: how far the run has come; only `micro_batches` is changed here.

    Raises:
        FaultError: memory does not suffice for a single sequence.
    """
    if not setup.network.training:
        setup.network.train()
    if setup.world.size > 1:  # so that a rank's random numbers follow from seed and step alone
        torch.manual_seed(update_seed(config.seed, state.step, setup.world.rank))
        rows = setup.share(rows)
    step = _Update(setup, config, rows, state)
    if setup.graphs is not None and max(config.accumulation, state.micro_batches) == 1:
        return StepMetrics(setup.graphs.run(rows, config.schedule(state.step), step))
    return StepMetrics(step.run_eager())


_SHARED = 2**31
"""In `update_seed` in a rank's place: what all ranks draw alike."""


def update_seed(*numbers: int) -> int:
    """A seed for random numbers of an update. numbers: the run's seed, the step, and who draws.

    Zeros at the end change nothing (NumPy's SeedSequence), so what all ranks share is drawn by a number of its own.
    """
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@dataclass(frozen=True)
class _Update:
    """One update. See `cuda.recorded_updates.Update`, which replays it where it can."""

    setup: TrainingSetup
    config: TrainConfig
    rows: npt.NDArray[np.int64]
    state: TrainState

    @property
    def device(self) -> torch.device:
        """Of the network."""
        return self.setup.network.device

    def run_eager(self) -> ToHost:
        """Operation by operation, in as many micro-batches as memory asks for."""
        setup, state, rows = self.setup, self.state, self.rows
        rate = self.config.schedule(state.step)
        while True:
            micro_batches = max(1, min(max(self.config.accumulation, state.micro_batches), len(rows)))
            restore = self.snapshot()
            try:
                parts = np.array_split(rows, micro_batches) if len(rows) else []
                batches = (self.batch_of(some) for some in parts)  # each made when the one before is computed
                return ToHost(self.compute(batches, rate, accumulate=micro_batches > 1))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Only here, where the error and all that it refers to is gone, can memory be freed.
            setup.optimizer.clear()
            if setup.graphs is not None:
                setup.graphs.forget()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            if micro_batches >= len(rows):
                raise FaultError(
                    f"training: memory does not suffice for a single sequence ({reason}); try "
                    "--activation-checkpointing, a lower --max-seq-length, or a smaller encoder"
                )
            restore()
            state.micro_batches = min(2 * micro_batches, len(rows))
            logger.warning(
                "out of memory (%s): from now on a batch is computed in %d parts", reason, state.micro_batches
            )

    def batch_of(self, rows: npt.NDArray[np.int64]) -> Batch:
        """The batch of some sequences, which is to be computed at once.

        Where dropout goes by the example, its masks are equal however a batch is shared among ranks and parts.
        """
        setup, state = self.setup, self.state
        batch = setup.make_batch(rows, state.epoch)
        if not setup.drops_by_example:
            return batch
        torch.default_generator.manual_seed(update_seed(self.config.seed, state.step, _SHARED))
        return batch.with_keys()

    def compute(self, batches: Iterable[Batch], rate: float | Tensor, *, accumulate: bool = False) -> Tensor:
        """Gradients of some batches that are one, and the optimizer's step. On CUDA nothing here waits for the device.

        Returns: mean loss and the gradients' norm. Shape: (2,), on the device.
        """
        setup, device = self.setup, self.device
        total = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        count = torch.zeros_like(total)
        for host_batch in batches:
            batch = host_batch.to(device)
            if setup.gradients is None:
                loss, weight = setup.loss(setup.network(batch), batch)
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                loss, weight = setup.gradients(setup.network, setup.loss, batch)
            if accumulate:
                setup.optimizer.accumulate()
            total, count = total + loss.detach(), count + weight
        totals = torch.stack([total, count])
        if setup.world.size == 1:
            return self._apply(totals, rate)
        try:
            return self._apply(setup.optimizer.sum_over(setup.world, totals), rate)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            # To begin anew, as `run_eager` would, needs all ranks, and the others are further.
            raise FaultError(f"rank {setup.world.rank}: no memory left to add gradients in ({error})") from None

    def _apply(self, totals: Tensor, rate: float | Tensor) -> Tensor:
        """The optimizer's step. totals: sum and number of the losses. Shape: (2,) → (2,)"""
        total, count = totals
        count = count.clamp(min=1.0)
        scale = (1 / count).masked_fill(~total.isfinite(), torch.nan)  # without a finite loss nothing is updated
        norm = self.setup.optimizer.step(rate, scale=scale)
        return torch.stack([total / count, torch.as_tensor(norm, dtype=total.dtype, device=self.device)])

    def snapshot(self) -> Callable[[], None]:
        """Remember the random generators. Returns: what restores them and clears all gradients."""
        rewind = save_generators()

        def restore() -> None:
            self.setup.optimizer.clear()
            rewind()

        return restore


def save_generators() -> Callable[[], None]:
    """What puts all generators back to where they stand now.

    To restore within the process, as every update needs: `random_state`, for files, takes twice as long.
    """
    python, numpy, cpu = random.getstate(), np.random.get_state(legacy=True), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
