"""A model's temperatures: fitted to validation rows, and folded into the last layer of its head.

Folded in, they need no place of their own: PyTorch, transformers, ONNX Runtime and every command give the same scores.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertune.encoder.layout import Layout
from bertune.features import Column, Features, Ragged
from bertune.model.final_layer import OWN, final_layer
from bertune.network import Network
from bertune.tasks.calibration import LEAST_ROWS, useful_temperatures
from bertune.tasks.protocol import Logits, Task
from bertune.tasks.row_metrics import Floats
from bertune.tasks.user_files import task_file_of

_UNKNOWN = (
    'its class does not say that its logits are those of classes (logit_kind = "classes" and labels), nor has it '
    "calibration_rows"
)
_AT_ONCE = 1 << 20
"""Logits whose loss is computed together."""


@dataclass(frozen=True)
class Temperatures:
    """What was found for a model's scores.

    values: by which logits are divided; none: there are none to be had. Shape: (1,) or (outputs,).
    why_none: why not, for people; empty where it goes without saying.
    """

    values: Floats | None = None
    why_none: str = ""


def temperatures_of(
    network: Network,
    task: Task[Any],
    logits: Logits,
    features: Features,
    examples: Sequence[Any],
    *,
    tune: bool = False,
) -> Temperatures:
    """The temperatures that fit these examples; none where the task has none, or the examples are too few.

    A task from a file must also have a head that ends in a linear layer, and answer at them as it does without.

    tune: the task is yet to be tuned on these examples; where that decides which answers are given, it is done first.
    """
    own = task_file_of(task) is None
    rows = task.calibration_rows(logits, features, examples)
    if rows is None:
        return Temperatures(None, "" if own else _UNKNOWN)
    if rows.chosen is not None and tune:
        rows = task.tuned(logits, features, examples).calibration_rows(logits, features, examples)
    found = None if rows is None else useful_temperatures(rows)
    if found is None:
        return Temperatures(None, "" if own else f"{LEAST_ROWS} validation rows are the fewest that one is fitted to")
    if own or (found == 1).all():
        return Temperatures(found)
    if final_layer(network, task, features, each=len(found) > 1) is None:
        head = type(network.head).__name__
        return Temperatures(None, f"the head {head} ends in no linear layer that logits could be divided in")
    before, after = (
        [task.predicted_answer(one) for one in task.decode(some, features, examples)]
        for some in (logits, at_temperatures(logits, found))
    )
    if before != after:
        return Temperatures(None, "answers would change: the task's decode compares logits with numbers of its own")
    return Temperatures(found)


def at_temperatures(logits: Logits, temperatures: Floats) -> Logits:
    """Logits divided by temperatures. Shape: temperatures (1,) or (outputs,)."""
    divisor = temperatures.astype(np.float32)
    if (divisor == 1).all():
        return logits
    return [row / divisor for row in logits]


def folded(weights: Mapping[str, Tensor], temperatures: Sequence[float], layer: str = OWN) -> dict[str, Tensor]:
    """A network's weights with its head's last layer divided by the temperatures.

    layer: its name, as `final_layer` finds it.

    Shape: those of the network; temperatures (1,) or (outputs,).

    Raises:
        KeyError: there is no layer of that name.
    """
    divisor = torch.tensor(temperatures, dtype=torch.float64)
    changed = dict(weights)
    for name in (f"{layer}.weight", f"{layer}.bias"):
        if name == f"{layer}.bias" and name not in weights:
            continue
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
