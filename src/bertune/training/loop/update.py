"""One update: the gradients of a batch, and the optimizer's step."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.data.features import Batch
from bertune.encoder.transfer import ToHost
from bertune.errors import FaultError
from bertune.training.loop.memory import is_out_of_memory
from bertune.training.loop.randomness import bookmark
from bertune.training.loop.state import Parts, Plan, Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Numbers:
    """What an update came to; on CUDA the numbers are on their way to the host while later updates run.

    values: the mean loss over the batch, and the gradients' norm before clipping; not finite: nothing was updated.
    """

    values: ToHost

    def read(self) -> tuple[float, float]:
        """Loss and norm; waits until this update, and no later one, is done."""
        loss, norm = self.values.read().tolist()
        return loss, norm


def update(parts: Parts, plan: Plan, rows: npt.NDArray[np.int64], progress: Progress) -> Numbers:
    """One optimizer step on the sequences at `rows`, computed in one part or in several.

    When memory runs out the update begins anew in twice as many parts, random numbers included, and the run goes on
    with so many.

    Raises:
        FaultError: memory does not suffice for a single sequence.
    """
    if not parts.network.training:
        parts.network.train()
    rate = plan.schedule(progress.step)
    if parts.graphs is not None and max(plan.accumulation, progress.pieces) == 1:
        return parts.graphs.run(parts, rows, rate, lambda: _from_host(parts, plan, rows, progress, rate))
    return _from_host(parts, plan, rows, progress, rate)


def _from_host(parts: Parts, plan: Plan, rows: npt.NDArray[np.int64], progress: Progress, rate: float) -> Numbers:
    """The update, operation by operation, in as many parts as memory asks for."""
    while True:
        pieces = min(max(plan.accumulation, progress.pieces), len(rows))
        rewind = bookmark()
        try:
            batches = (parts.make_batch(piece, progress.epoch) for piece in np.array_split(rows, pieces))
            return Numbers(ToHost(computed(parts, batches, rate, several=pieces > 1)))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            told = str(error).partition("\n")[0]
        # Only here, where the error and all that it holds on to is gone, can memory be given back.
        parts.optimizer.clear()
        if parts.graphs is not None:
            parts.graphs.forget()
        if parts.network.device.type == "cuda":
            torch.cuda.empty_cache()
        if pieces == len(rows):
            raise FaultError(
                f"training: memory does not suffice for a single sequence ({told}); try --activation-checkpointing, a "
                "lower --max-seq-length, or a smaller encoder"
            )
        rewind()
        progress.pieces = min(2 * pieces, len(rows))
        logger.warning("out of memory (%s): from now on a batch is computed in %d parts", told, progress.pieces)


def computed(parts: Parts, batches: Iterable[Batch], rate: float | Tensor, *, several: bool) -> Tensor:
    """Gradients of some batches that are one, and the step. On CUDA nothing here waits for the device.

    Returns: mean loss and the gradients' norm. Shape: (2,), on the device.
    """
    device = parts.network.device
    total = torch.zeros((), device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
    count = torch.zeros_like(total)
    for host_batch in batches:
        batch = host_batch.to(device)
        loss, weight = parts.loss(parts.network(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if several:
            parts.optimizer.accumulate()
        total, count = total + loss.detach(), count + weight
    count = count.clamp(min=1.0)
    scale = (1 / count).masked_fill(~total.isfinite(), torch.nan)  # without a finite loss nothing is updated
    norm = parts.optimizer.step(rate, scale=scale)
    return torch.stack([total / count, torch.as_tensor(norm, dtype=total.dtype, device=device)])
