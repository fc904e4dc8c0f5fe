"""`--time-limit`: what an update and an evaluation will take, measured before a run begins."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bertune.distributed.world import current
from bertune.durations import Clock, duration
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError
from bertune.network import Batch
from bertune.training.launch import TrainingJob
from bertune.training.loop.budget import TARGET, TimeBudget
from bertune.training.loop.loop import save_generators
from bertune.training.loop.memory import is_out_of_memory
from bertune.training.loop.regularization import BackwardOf, one_pass

_BYTES_PER_SECOND = 3e8
"""At which a model and a checkpoint are written, hashed and synced, until that is measured: a slow disk's rate."""
_COPIES = 3
"""Of the weights, in float32, in a checkpoint: themselves and two moments."""


@dataclass(frozen=True)
class TimeLimit:
    """A limit of a run that has no option for it. said: as `--time-limit` was given."""

    said: str
    clock: Clock


def probe(job: TrainingJob, budget: TimeBudget, evaluated: int) -> None:
    """Measure a typical batch forward and backward, and forward alone, and put what follows into the budget.

    The network and the random generators are left as they were. The optimizer's step is not measured, but the first
    updates of the run itself are.

    Args:
        job: whose network lies on its device.
        budget: gets the estimates.
        evaluated: tokens that every evaluation computes.
    """
    device, rewind = job.network.device, save_generators()
    batches, whole = job.batches(device), min(job.config.batch_size, job.sequences)
    rows = whole
    with fast_float32(device):
        while True:
            try:
                batch = batches.make(_typical(job, rows), 0).to(device)
                update, forward = _timed(job, batch)
                break
            except (MemoryError, RuntimeError) as error:
                if rows == 1 or not is_out_of_memory(error):
                    raise
            for weight in job.network.parameters():
                weight.grad = None
            rows = max(1, rows // 2)  # as an update does, which is then computed in parts
    rewind()
    world = current()
    budget.update = update * whole / rows / world.size  # ranks share the batch
    size = 4 * sum(weight.numel() for weight in job.network.parameters())
    each = forward / max(1, len(batch.input_ids)) / world.size
    budget.checkpoint = _COPIES * size / _BYTES_PER_SECOND
    budget.evaluation = each * evaluated + size / _BYTES_PER_SECOND + budget.checkpoint
    budget.update, budget.evaluation = world.agree((budget.update, budget.evaluation))


def _typical(job: TrainingJob, rows: int) -> npt.NDArray[np.int64]:
    """Sequences that are together about as long as batches of so many are on average: from the shortest to the longest.

    The first ones of a file may all be long, as headlines or examples that were sorted.
    """
    order = np.arange(job.sequences) if job.lengths is None else np.argsort(job.lengths, kind="stable")
    places = (np.arange(rows) + 0.5) * len(order) / rows
    return np.asarray(order[places.astype(np.int64)], dtype=np.int64)


def _timed(job: TrainingJob, batch: Batch) -> tuple[float, float]:
    """Seconds of a batch forward and backward, and of one forward without gradients."""
    gradients, seconds = job.gradients or BackwardOf(one_pass), 0.0
    job.network.train()
    for _ in range(2):  # the first time also compiles and allocates
        began = time.perf_counter()
        loss, _count = gradients(job.network, job.loss, batch)
        float(loss)  # waits for the device
        seconds = time.perf_counter() - began
        for weight in job.network.parameters():
            weight.grad = None
    job.network.eval()
    with torch.inference_mode():
        began = time.perf_counter()
        float(job.network(batch).float().sum())
        forward = time.perf_counter() - began
    job.network.train()
    return seconds, forward


def refuse_too_short(budget: TimeBudget, limit: str, output: Path) -> None:
    """Refuse a limit in which not one update, the evaluation after it and the writing of the model fit.

    Raises:
        InputError: with the estimate.
    """
    needed = budget.update + budget.evaluation
    if current().agree(needed <= budget.left - (1 - TARGET) * budget.clock.seconds):
        return
    enough = math.ceil(budget.clock.enough(needed) / TARGET + 1)
    raise InputError(
        f"--time-limit {limit}: {duration(budget.clock.over)} are over, a step takes "
        f"about {budget.update:.2f} s here, evaluating and writing the model to {output} about "
        f"{duration(budget.evaluation)}; give at least {enough}s"
    )
