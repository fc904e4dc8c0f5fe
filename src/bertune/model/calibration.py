"""A model's temperatures: fitted to validation rows, and folded into the last layer of its head.

Folded in, they need no place of their own: PyTorch, transformers, ONNX Runtime and every command give the same scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertune.data.features import Column, Features
from bertune.encoder.layout import Layout
from bertune.inference.evaluation import infer
from bertune.inference.network import Network
from bertune.ragged import Ragged
from bertune.tasks.calibration import fit_temperatures
from bertune.tasks.protocol import Logits, Task
from bertune.tasks.row_metrics import Floats
from bertune.tasks.user_files import task_file_of

LAST_LAYER = ("head.weight", "head.bias")
"""Names, in a network, of the linear layer that bertune's own heads end in."""
TRIED = 8
"""Sequences on which a user's head is tried."""
LARGEST_MISS = 1e-3
"""Of logits from those that were wanted, as a share of the largest: heads compute in float32, on the same batch."""
_AT_ONCE = 1 << 20
"""Logits whose loss is computed together."""


def temperatures_of(
    task: Task[Any], logits: Logits, features: Features, examples: Sequence[Any], *, tune: bool = False
) -> Floats | None:
    """The temperatures that fit these examples; None where the task has none, or the examples are too few.

    tune: the task is yet to be tuned on these examples; where that decides which answers are given, it is done first.

    Returns: Shape: (1,) or (outputs,).
    """
    rows = task.calibration_rows(logits, features, examples)
    if rows is not None and rows.chosen is not None and tune:
        rows = task.tuned(logits, features, examples).calibration_rows(logits, features, examples)
    return None if rows is None else fit_temperatures(rows)


def scaled_tensors(task: Task[Any], network: Network, features: Features, temperatures: Floats) -> tuple[str, ...]:
    """Names of the network's tensors that, divided by the temperatures, divide its logits; none where none are found.

    Nothing says what a head of a user's task ends in, so it is tried on a few sequences: all of the head divided (a
    linear layer; a score less thresholds), then each of its layers, the last first.

    Args:
        task: of the network.
        network: whose head is changed and changed back.
        features: some of which are run.
        temperatures: Shape: (1,) or (outputs,).
    """
    if task_file_of(task) is None:
        return LAST_LAYER
    tensors = dict(network.head.named_parameters())
    layers = {name.rpartition(".")[0]: None for name in tensors}
    by_layer = [[name for name in tensors if name.rpartition(".")[0] == layer] for layer in reversed(layers)]
    some = features.first(TRIED)
    wanted = at_temperatures(infer(network, some).logits, temperatures)
    for names in [list(tensors), *by_layer]:
        if names and _gives(network, {name: tensors[name] for name in names}, some, wanted, temperatures):
            return tuple(f"head.{name}" for name in names)
    return ()


def _gives(
    network: Network, tensors: Mapping[str, Tensor], features: Features, wanted: Logits, temperatures: Floats
) -> bool:
    """Whether the network gives the wanted logits with these tensors of its head divided."""
    before = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    try:
        for name, changed in folded(before, temperatures.tolist(), tuple(before)).items():
            tensors[name].data.copy_(changed)
        found = infer(network, features).logits
    except RuntimeError:  # a tensor that has no row for every temperature
        return False
    finally:
        for name, tensor in before.items():
            tensors[name].data.copy_(tensor)
    size = max(float(np.abs(row).max(initial=0)) for row in wanted)
    return all(np.abs(a - b).max(initial=0) <= LARGEST_MISS * size for a, b in zip(found, wanted, strict=True))


def at_temperatures(logits: Logits, temperatures: Floats) -> Logits:
    """Logits divided by temperatures. Shape: temperatures (1,) or (outputs,)."""
    divisor = temperatures.astype(np.float32)
    if (divisor == 1).all():
        return logits
    return [row / divisor for row in logits]


def folded(
    weights: Mapping[str, Tensor], temperatures: Sequence[float], names: Sequence[str] = LAST_LAYER
) -> dict[str, Tensor]:
    """A network's weights with some tensors divided by the temperatures: those that `scaled_tensors` names.

    Shape: those of the network; temperatures (1,) or (outputs,).

    Raises:
        KeyError: no tensor of that name.
        RuntimeError: one that has no row for every temperature.
    """
    divisor = torch.tensor(temperatures, dtype=torch.float64)
    changed = dict(weights)
    for name in names:
        tensor = weights[name]
        by_row = divisor.reshape(-1, *(1 for _ in tensor.shape[1:])) if tensor.ndim else divisor.reshape(())
        changed[name] = (tensor.double().cpu() / by_row).to(tensor)
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
