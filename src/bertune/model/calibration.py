"""A model's temperatures: fitted to validation rows, and folded into the last layer of its head.

Folded in, they need no place of their own: PyTorch, transformers, ONNX Runtime and every command give the same scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertune.encoder.layout import Layout
from bertune.features import Column, Features, Ragged
from bertune.tasks.calibration import fit_temperatures
from bertune.tasks.protocol import Logits, Task
from bertune.tasks.row_metrics import Floats
from bertune.tasks.user_files import task_file_of

LAST_LAYER = ("head.weight", "head.bias")
"""Names, in a network, of the linear layer that a head ends in."""
_AT_ONCE = 1 << 20
"""Logits whose loss is computed together."""


def temperatures_of(
    task: Task[Any], logits: Logits, features: Features, examples: Sequence[Any], *, tune: bool = False
) -> Floats | None:
    """The temperatures that fit these examples; None where the task has none, or the examples are too few.

    The heads of users' tasks are none of ours: nothing says that they end in a linear layer.

    tune: the task is yet to be tuned on these examples; where that decides which answers are given, it is done first.

    Returns: Shape: (1,) or (outputs,).
    """
    if task_file_of(task) is not None:
        return None
    rows = task.calibration_rows(logits, features, examples)
    if rows is not None and rows.chosen is not None and tune:
        rows = task.tuned(logits, features, examples).calibration_rows(logits, features, examples)
    return None if rows is None else fit_temperatures(rows)


def at_temperatures(logits: Logits, temperatures: Floats) -> Logits:
    """Logits divided by temperatures. Shape: temperatures (1,) or (outputs,)."""
    divisor = temperatures.astype(np.float32)
    if (divisor == 1).all():
        return logits
    return [row / divisor for row in logits]


def folded(weights: Mapping[str, Tensor], temperatures: Sequence[float]) -> dict[str, Tensor]:
    """A network's weights with its head's last layer divided by the temperatures.

    Shape: those of the network; temperatures (1,) or (outputs,).

    Raises:
        KeyError: the head does not end in a linear layer of that name.
    """
    divisor = torch.tensor(temperatures, dtype=torch.float64)
    changed = dict(weights)
    for name in LAST_LAYER:
        tensor = weights[name]
        changed[name] = (tensor.double().cpu() / (divisor[:, None] if tensor.ndim == 2 else divisor)).to(tensor)
    return changed


def loss_of(task: Task[Any], logits: Logits, features: Features) -> float:
    """The task's mean loss of logits that are there already.

    logits: Shape: (outputs,) or (tokens, outputs) each.
    """
    whole = features.together or any(isinstance(column, Ragged) for column in features.targets.values())
    step = len(logits) if whole else max(1, _AT_ONCE // max(1, logits[0].size))
    targets = {name: _tensor(column) for name, column in features.targets.items()}
    total = count = 0.0
    for start in range(0, len(logits), step):
        rows = slice(start, start + step)
        part = np.concatenate([row if row.ndim == 2 else row[None] for row in logits[rows]])
        layout = Layout.packed(features.input_ids.lengths[rows].tolist())
        terms = task.loss(torch.from_numpy(part), {n: t if whole else t[rows] for n, t in targets.items()}, layout)
        total, count = total + float(terms[0]), count + float(terms[1])
    return total / max(count, 1e-9)


def _tensor(column: Column) -> Tensor:
    values = np.asarray(column.values if isinstance(column, Ragged) else column)
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.float() if tensor.is_floating_point() else tensor.long()
