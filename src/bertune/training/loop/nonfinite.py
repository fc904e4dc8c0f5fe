"""Numbers that go wrong in an update: found there, traced to rows of the data, skipped, in the end refused.

The optimizer changes nothing where the norm of the gradients is not finite (`training.optimizer`), and
`training.update` gives it no finite norm where the loss is not. What is left is logged and counted here.
"""

import logging
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bertune.errors import InputError
from bertune.training.loop.state import TrainConfig, TrainingSetup, TrainState

logger = logging.getLogger(__name__)

SMOOTHING = 0.98
"""The training loss is a moving mean over about 50 updates."""


@dataclass(frozen=True)
class StepRecord:
    """An update that was made: its number, from 1, the epoch it belongs to, and the places of its sequences."""

    step: int
    epoch: int
    rows: npt.NDArray[np.int64]


class NonFiniteError(InputError):
    """Too many updates in a row without a finite loss or gradient.

    count: of those updates.  rows: of the last one.  traced: which of its rows are at fault; "" where none is.
    """

    def __init__(self, count: int, rows: str, traced: str) -> None:
        self.count, self.rows, self.traced = count, rows, traced
        super().__init__(self.explain())

    def explain(self, limit: str = "", advice: str = "") -> str:
        """The message, with the name of the limit and the advice of whoever shows it."""
        text = f"training: {self.count} steps in a row had no finite loss or gradient"
        text += f" ({limit})" if limit else ""
        return "; ".join(filter(None, (f"{text}, the last on {self.rows}{_dot(self.traced)}", advice)))


def _dot(text: str) -> str:
    return f". {text}" if text else ""


def count_update(
    setup: TrainingSetup, config: TrainConfig, state: TrainState, made: StepRecord, numbers: tuple[float, float]
) -> None:
    """Take note of an update: count it where it was skipped, else let its loss into the moving mean.

    numbers: the loss, and the gradients' norm.

    Raises:
        NonFiniteError: too many updates in a row had no finite numbers.
    """
    loss, norm = numbers
    rows = made.rows
    if math.isfinite(loss) and math.isfinite(norm):
        state.skipped_in_a_row = 0
        if made.step > config.schedule.warmup:
            state.losses += 1
            share = max(1 / state.losses, 1 - SMOOTHING)
            state.loss += share * (loss - state.loss)
        return
    state.skipped += 1
    state.skipped_in_a_row += 1
    found = traced(setup, rows, made.epoch)
    logger.warning(
        "step %d: loss %s, gradient norm %s; skipped (%d in a row). Its rows: %s%s",
        made.step, loss, norm, state.skipped_in_a_row, setup.name_rows(rows), f". {found}" if found else "",
    )  # fmt: skip
    if state.skipped_in_a_row >= config.max_skipped:
        raise NonFiniteError(state.skipped_in_a_row, setup.name_rows(rows), found)


def traced(setup: TrainingSetup, rows: npt.NDArray[np.int64], epoch: int) -> str:
    """Which of an update's sequences have no finite loss by themselves, without dropout; no random number is drawn."""
    bad = []
    setup.network.eval()
    with torch.no_grad():
        for row in rows:
            batch = setup.make_batch(np.array([row]), epoch).to(setup.network.device)
            loss, weight = setup.loss(setup.network(batch), batch)
            if not math.isfinite(float(loss) / max(float(weight), 1.0)):
                bad.append(row)
    if not bad:
        return "Each alone has a finite loss, so the gradients grew too large"
    if len(bad) == len(rows) and len(rows) > 1:
        return "None has a finite loss, so the weights are at fault, not the data"
    return f"By themselves these have none: {setup.name_rows(np.array(bad))}"


def log_skipped(state: TrainState) -> None:
    """At the end of a run: how many updates were skipped, if any."""
    if state.skipped:
        logger.warning(
            "%d of %d steps were skipped, their loss or gradients were not finite%s",
            state.skipped, state.step,
            ": nothing was learnt" if state.skipped == state.step else "",
        )  # fmt: skip
