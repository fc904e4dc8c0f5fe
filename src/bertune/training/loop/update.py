"""One update: the gradients of a batch, and the optimizer's step."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.data.packing import Batch
from bertune.encoder.transfer import ToHost
from bertune.errors import FaultError
from bertune.training.loop.memory import is_out_of_memory
from bertune.training.loop.randomness import save_generators
from bertune.training.loop.state import TrainConfig, TrainingSetup, TrainState

logger = logging.getLogger(__name__)


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
        torch.manual_seed(rank_seed(config.seed, state.step, setup.world.rank))
        rows = setup.share(rows)
    step = _Update(setup, config, rows, state)
    if setup.graphs is not None and max(config.accumulation, state.micro_batches) == 1:
        return StepMetrics(setup.graphs.run(rows, config.schedule(state.step), step))
    return StepMetrics(step.run_eager())


def rank_seed(seed: int, step: int, rank: int) -> int:
    """A seed for the random numbers that a rank draws in an update."""
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1)[0])


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
                batches = (setup.make_batch(some, state.epoch) for some in parts)
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

    def compute(self, batches: Iterable[Batch], rate: float | Tensor, *, accumulate: bool = False) -> Tensor:
        """Gradients of some batches that are one, and the optimizer's step. On CUDA nothing here waits for the device.

        Returns: mean loss and the gradients' norm. Shape: (2,), on the device.
        """
        setup, device = self.setup, self.device
        total = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
        count = torch.zeros_like(total)
        for host_batch in batches:
            batch = host_batch.to(device)
            loss, weight = setup.loss(setup.network(batch), batch)
            loss.backward()  # type: ignore[no-untyped-call]
            if accumulate:
                setup.optimizer.accumulate()
            total, count = total + loss.detach(), count + weight
        if setup.world.size > 1:
            total, count = setup.world.sum(torch.stack([total, count]))
            setup.optimizer.sum_over(setup.world)
        count = count.clamp(min=1.0)
        scale = (1 / count).masked_fill(~total.isfinite(), torch.nan)  # without a finite loss nothing is updated
        norm = setup.optimizer.step(rate, scale=scale)
        return torch.stack([total / count, torch.as_tensor(norm, dtype=total.dtype, device=device)])

    def snapshot(self) -> Callable[[], None]:
        """Remember the random generators. Returns: what restores them and clears all gradients."""
        rewind = save_generators()

        def restore() -> None:
            self.setup.optimizer.clear()
            rewind()

        return restore
