"""How far ahead of all others a training row's own label was over the epochs: low where the label may be wrong.

Source: Pleiss et al., 2020, "Identifying mislabeled data using the area under the margin ranking"; forgetting events:
Toneva et al., 2019. The logits are those that training computes anyway, with dropout.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertune.distributed.world import current
from bertune.errors import InputError
from bertune.files.atomic_write import write_text
from bertune.network import Batch, BatchLoss
from bertune.report.write import SUSPECT_COLUMNS, csv_text
from bertune.tasks.parts import parts_of
from bertune.tasks.protocol import Task
from bertune.training.prepare import Split

logger = logging.getLogger(__name__)

FILE = "margins.csv"
COLUMNS = (*SUSPECT_COLUMNS, "mean_margin", "seen", "forgotten")


class LabelMargins:
    """A loss that also keeps, for every training row, the sum of its logits and of its margins."""

    def __init__(self, loss: BatchLoss, task: Task[Any], split: Split) -> None:
        """Raises InputError for a task without one label a row, rows in windows, or a run of several processes."""
        if current().size > 1:
            raise InputError("--label-margins: is for a run of one process")
        if getattr(task, "logit_kind", None) != "classes" or len(split.features) != len(split.examples):
            raise InputError(
                f"--label-margins: is for tasks with one label a text, read as one sequence; not for {task.name} so"
            )
        self._loss, self._split, self._labels = loss, split, list(getattr(task, "labels", ()))
        rows = len(split.examples)
        self._logits = np.zeros((rows, len(self._labels)))
        self._margins, self._seen = np.zeros(rows), np.zeros(rows, np.int64)
        self._right, self._forgotten = np.zeros(rows, np.bool_), np.zeros(rows, np.int64)

    def __call__(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss. Shape: logits (sequences, labels) → two scalars."""
        with torch.no_grad():
            values = logits.detach().double().cpu().numpy()
            label = batch.targets["label"].cpu().numpy()
        rows, own = batch.rows, np.arange(len(batch.rows))
        others = values.copy()
        others[own, label] = -np.inf
        margin = values[own, label] - others.max(1)
        self._logits[rows] += values
        self._margins[rows] += margin
        self._seen[rows] += 1
        right = margin > 0
        self._forgotten[rows] += self._right[rows] & ~right
        self._right[rows] = right
        return self._loss(logits, batch)

    def write(self, folder: Path) -> Path:
        """margins.csv: every row that was seen, the least margin first; `bertune check --apply` takes it back.

        Raises:
            OSError: it cannot be written.
        """
        seen = np.flatnonzero(self._seen)
        mean = self._margins[seen] / self._seen[seen]
        order = np.argsort(mean, kind="stable")
        found = []
        for row, margin in zip(seen[order], mean[order], strict=True):
            example = self._split.examples[row]
            parts = parts_of(example)
            labelled = self._split.labelled
            logits = self._logits[row] / self._seen[row]
            exponents = np.exp(logits - logits.max())
            label = str(parts.labels[0])
            found.append({
                "file": str(self._split.path if labelled is None else labelled.path_of(int(row))),
                "place": parts.place,
                "text": " ¦ ".join(parts.texts.values()),
                "truth": label,
                "suggested": self._labels[int(logits.argmax())],
                "self_confidence": round(float((exponents / exponents.sum())[self._labels.index(label)]), 6),
                "correct_label": "",
                "mean_margin": round(float(margin), 4),
                "seen": int(self._seen[row]),
                "forgotten": int(self._forgotten[row]),
            })  # fmt: skip
        write_text(folder / FILE, csv_text(COLUMNS, found))
        return folder / FILE
