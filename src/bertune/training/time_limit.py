"""`--time-limit`: what an update and an evaluation will take, measured before a run begins."""

import math
import time
from pathlib import Path

import numpy as np
import torch

from bertune.data.features import Features
from bertune.data.packing import Batch
from bertune.durations import duration
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError
from bertune.training.launch import TrainingJob
from bertune.training.loop.budget import TARGET, TimeBudget
from bertune.training.loop.memory import is_out_of_memory
from bertune.training.loop.regularization import BackwardOf, one_pass
from bertune.training.loop.update import save_generators

_BYTES_PER_SECOND = 3e8
"""At which a model and a checkpoint are written, hashed and synced, until that is measured: a slow disk's rate."""
_COPIES = 4
"""Of the weights, in float32: the model, and in a checkpoint weights and two moments."""


def probe(job: TrainingJob, budget: TimeBudget, validation: Features | None) -> None:
    """Measure a batch forward and backward, and forward alone, and put what follows into the budget.

    The network and the random generators are left as they were. The optimizer's step is not measured, but the first
    updates of the run itself are.

    Args:
        job: whose network lies on its device.
        budget: gets the estimates.
        validation: what every evaluation computes; None: nothing.
    """
    device, rewind = job.network.device, save_generators()
    batches, whole = job.batches(device), min(job.config.batch_size, job.sequences)
    rows = whole
    with fast_float32(device):
        while True:
            try:
                batch = batches.make(np.arange(rows), 0).to(device)
                update, forward = _timed(job, batch)
                break
            except (MemoryError, RuntimeError) as error:
                if rows == 1 or not is_out_of_memory(error):
                    raise
            for weight in job.network.parameters():
                weight.grad = None
            rows = max(1, rows // 2)  # as an update does, which is then computed in parts
    rewind()
    budget.update = update * whole / rows
    tokens = 0 if validation is None else len(validation.input_ids.values)
    size = 4 * sum(weight.numel() for weight in job.network.parameters())
    budget.evaluation = forward * tokens / max(1, len(batch.input_ids)) + _COPIES * size / _BYTES_PER_SECOND


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
    if needed <= budget.left - (1 - TARGET) * budget.clock.seconds:
        return
    enough = math.ceil(budget.clock.enough(needed) / TARGET + 1)
    raise InputError(
        f"--time-limit {limit}: {duration(budget.clock.spent + budget.clock.elapsed)} are over, an update takes "
        f"about {budget.update:.2f} s here, evaluating and writing the model to {output} about "
        f"{duration(budget.evaluation)}; give at least {enough}s"
    )
