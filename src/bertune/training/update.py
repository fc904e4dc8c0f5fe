"""One update: the gradients of a batch, and the optimizer's step."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bertune.training.parts import Parts, Plan, Progress


@dataclass(frozen=True)
class Numbers:
    """What an update came to, on the device that computed it; reading waits for that device.

    loss: mean over the batch.  norm: of the gradients, before clipping; not finite: nothing was updated.
    """

    loss: Tensor | float
    norm: Tensor | float

    def read(self) -> tuple[float, float]:
        """Loss and norm on the host."""
        return float(self.loss), float(self.norm)


def update(parts: Parts, plan: Plan, rows: npt.NDArray[np.int64], progress: Progress) -> Numbers:
    """One optimizer step on the sequences at `rows`, computed in `plan.accumulation` parts."""
    parts.network.train()
    total, count = 0.0, 0.0
    pieces = np.array_split(rows, min(plan.accumulation, len(rows)))
    for piece in pieces:
        batch = parts.make_batch(piece, progress.epoch).to(parts.network.device)
        loss, weight = parts.loss(parts.network(batch), batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if len(pieces) > 1:
            parts.optimizer.accumulate()
        total, count = total + float(loss.detach()), count + float(weight)
    scale = 1 / max(count, 1.0) if math.isfinite(total) else math.nan  # without a finite loss nothing is updated
    norm = parts.optimizer.step(plan.schedule(progress.step), scale=scale)
    return Numbers(total / max(count, 1.0), norm)
