"""Numbers that go wrong in an update: found there, traced to rows of the data, skipped, in the end refused.

The optimizer changes nothing where the norm of the gradients is not finite (`training.optimizer`), and
`training.update` gives it no finite norm where the loss is not. What is left is told and counted here.
"""

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bertune.errors import InputError
from bertune.training.loop.state import Parts, Plan, Progress

logger = logging.getLogger(__name__)

SMOOTHING = 0.98
"""The training loss is a moving mean over about 50 updates."""


@dataclass(frozen=True)
class Made:
    """An update that was made: its number, from 1, the epoch it belongs to, and the places of its sequences."""

    step: int
    epoch: int
    rows: npt.NDArray[np.int64]


def count_update(parts: Parts, plan: Plan, progress: Progress, made: Made, numbers: tuple[float, float]) -> None:
    """Take note of an update: count it where it was skipped, else let its loss into the moving mean.

    numbers: the loss, and the gradients' norm.

    Raises:
        InputError: too many updates in a row had no finite numbers.
    """
    loss, norm = numbers
    rows = made.rows
    if math.isfinite(loss) and math.isfinite(norm):
        progress.skipped_in_a_row = 0
        if made.step > plan.schedule.warmup:
            progress.losses += 1
            share = max(1 / progress.losses, 1 - SMOOTHING)
            progress.loss += share * (loss - progress.loss)
        return
    progress.skipped += 1
    progress.skipped_in_a_row += 1
    found = traced(parts, rows, made.epoch)
    logger.warning(
        "update %d: loss %s, gradient norm %s; skipped (%d in a row). Its rows: %s%s",
        made.step, loss, norm, progress.skipped_in_a_row, parts.name_rows(rows), f". {found}" if found else "",
    )  # fmt: skip
    if progress.skipped_in_a_row >= plan.max_skipped:
        raise InputError(
            f"training: {progress.skipped_in_a_row} updates in a row had no finite loss or gradient "
            f"(--max-skipped {plan.max_skipped}), the last on {parts.name_rows(rows)}. {found + '; ' if found else ''}"
            "try a lower --learning-rate or --precision fp32, and look at those rows"
        )


def traced(parts: Parts, rows: npt.NDArray[np.int64], epoch: int) -> str:
    """Which of an update's sequences have no finite loss by themselves, without dropout; no random number is drawn."""
    bad = []
    parts.network.eval()
    with torch.no_grad():
        for row in rows:
            batch = parts.make_batch(np.array([row]), epoch).to(parts.network.device)
            loss, weight = parts.loss(parts.network(batch), batch)
            if not math.isfinite(float(loss) / max(float(weight), 1.0)):
                bad.append(row)
    if not bad:
        return "Each alone has a finite loss, so the gradients grew too large"
    if len(bad) == len(rows) and len(rows) > 1:
        return "None has a finite loss, so the weights are at fault, not the data"
    return f"By themselves these have none: {parts.name_rows(np.array(bad))}"


def tell_skipped(progress: Progress) -> None:
    """At the end of a run: how many updates were skipped, if any."""
    if progress.skipped:
        logger.warning(
            "%d of %d updates were skipped, their loss or gradients were not finite%s",
            progress.skipped, progress.step,
            ": nothing was learnt" if progress.skipped == progress.step else "",
        )  # fmt: skip
