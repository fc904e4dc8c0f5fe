"""Batches for a student: its sequences, the teacher's logits for them, and labels where they are known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.distill.losses import CHOICE, COUNTED, KNOWN, ON_TOKENS, QUESTION, SOFT_LOSSES, TEACHER
from bertune.features import IGNORED, Column, Features, Ragged
from bertune.network import Batch, BatchLoss, Network, pack
from bertune.tasks.protocol import Logits

TaskLoss = Callable[[Tensor, Mapping[str, Tensor], Batch], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class DistillationBatches:
    """Packs sequences with the teacher's logits.

    kind: what the logits stand for.
    features: of all rows, labelled ones first, without targets.
    teacher: for every sequence of `features`. Shape: (outputs,) or (tokens, outputs) each.
    targets: of the labelled rows' sequences, which come first.
    """

    kind: str
    features: Features
    teacher: Logits
    targets: Mapping[str, Column]

    @property
    def known(self) -> int:
        """How many sequences have labels."""
        return min((len(column) for column in self.targets.values()), default=0)

    def make(self, units: npt.NDArray[np.int64], epoch: int) -> Batch:  # noqa: ARG002 (the same in every epoch)
        """The batch of the units at these places."""
        batch = pack(self.features, units)
        rows, total = batch.rows, len(batch.input_ids)
        parts = [self.teacher[row] for row in rows]
        if self.kind in ON_TOKENS:
            logits = np.concatenate([*parts, np.zeros((total - sum(map(len, parts)), parts[0].shape[1]), np.float32)])
        else:
            logits = np.stack(parts)
        targets = {TEACHER: torch.from_numpy(logits), KNOWN: torch.from_numpy(rows < self.known)}
        if self.kind == "tags":
            word = self.features.extras["word"]
            assert isinstance(word, Ragged)
            counted = np.zeros(total, np.int64)
            spoken = word.take(rows).values >= 0
            counted[: len(spoken)] = spoken
            targets[COUNTED] = torch.from_numpy(counted)
        if self.kind == "choices":
            targets[CHOICE] = torch.from_numpy(np.asarray(self.features.extras["choice"])[rows].astype(np.int64))
            targets[QUESTION] = torch.from_numpy(self.features.example_index[rows].astype(np.int64))
        targets |= {name: _padded(column, rows, self.known, batch) for name, column in self.targets.items()}
        return replace(batch, targets=targets)

    def recorded_updates(self, network: Network, batch_size: int) -> RecordedUpdates | None:  # noqa: ARG002
        """None: the teacher's logits lie on the host."""
        return None


def _padded(column: Column, rows: npt.NDArray[np.int64], known: int, batch: Batch) -> Tensor:
    """Targets of labelled sequences; IGNORED, or zero where they are no classes, for the others."""
    labelled = np.flatnonzero(rows < known)
    if isinstance(column, Ragged):
        ends = np.cumsum([0, *batch.layout.lengths])
        values = np.full(len(batch.input_ids), IGNORED, np.int64)
        for place in labelled:
            values[ends[place] : ends[place + 1]] = column[int(rows[place])]
        return torch.from_numpy(values)
    classes = np.issubdtype(column.dtype, np.integer) and column.ndim == 1
    filled = np.full((len(rows), *column.shape[1:]), IGNORED if classes else 0, column.dtype)
    filled[labelled] = column[rows[labelled]]
    tensor = torch.from_numpy(filled)
    return tensor.float() if tensor.is_floating_point() else tensor.long()


def distillation_loss(kind: str, hard: TaskLoss, names: Sequence[str], alpha: float, temperature: float) -> BatchLoss:
    """The loss of a student: alpha · teacher + (1 - alpha) · label where a label is known, the teacher elsewhere.

    Args:
        kind: what the logits stand for.
        hard: the task's own loss.
        names: of its targets; none: no labels are known.
        alpha: the teacher's share.
        temperature: for both logits.
    """
    soft = SOFT_LOSSES[kind]

    def loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        terms, owner = soft(logits.float(), batch.targets[TEACHER], batch, temperature)
        known = batch.targets[KNOWN][owner]
        total = (terms * torch.where(known, alpha, 1.0)).sum()
        count = torch.tensor(len(terms), device=logits.device)
        if not names or alpha == 1 or not bool(known.any()):
            return total, count
        own = {name: batch.targets[name] for name in names}
        if kind in ON_TOKENS:
            value, divisor = hard(logits, own, batch)
            divisor = known.sum() if kind == "span" else divisor  # unknown windows count nothing
        else:
            at = torch.nonzero(batch.targets[KNOWN])[:, 0]
            value, divisor = hard(logits[at], {name: target[at] for name, target in own.items()}, batch)
        return total + (1 - alpha) * known.sum() * value / divisor.clamp(min=1e-9), count

    return loss
