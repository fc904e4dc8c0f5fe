"""The linear layer that a head ends in: where temperatures are folded into a model.

bertune's own heads end in one by construction. Of a head from a task file nothing is known, so it is tried: the layer
is the one whose weights, divided by numbers, give logits divided by the same numbers.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from bertune.features import Features
from bertune.network import Network, pack
from bertune.tasks.protocol import Task
from bertune.tasks.user_files import task_file_of

OWN = "head"
"""Name, in a network, of the layer that bertune's own heads end in: they are that layer."""
_SEQUENCES = 4
"""Sequences that a head is tried with, the shortest ones."""


def final_layer(network: Network, task: Task[Any], features: Features, *, each: bool = False) -> str | None:
    """The name, in the network, of the linear layer by whose weights the logits scale; None where there is none.

    Args:
        network: of the task; its modes and weights stay as they are.
        task: whose head it has.
        features: of which a few are run through the network.
        each: every output is to be scaled by a number of its own, not all by one.
    """
    if task_file_of(task) is None:
        return OWN
    given = _given_to_head(network, features)
    if given is None:
        return None
    modes = {module: module.training for module in network.head.modules()}
    network.head.eval()
    try:
        with torch.no_grad():
            found = next(
                (name for name, layer in _linear_layers(network.head) if _scales(network, layer, name, given, each)),
                None,
            )
    finally:
        for module, training in modes.items():
            module.training = training
    return found if found is None else f"{OWN}.{found}".rstrip(".")


def _given_to_head(network: Network, features: Features) -> tuple[Any, ...] | None:
    """What the head gets from the encoder for a few sequences; None for a head that is called in another way."""
    kept: list[tuple[Any, ...]] = []
    handle = network.head.register_forward_pre_hook(lambda _, arguments: kept.append(arguments))
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        rows = np.argsort(features.unit_lengths, kind="stable")[:_SEQUENCES]
        with torch.no_grad():
            network(pack(features, rows).to(network.device))
    finally:
        handle.remove()
        for module, training in modes.items():
            module.training = training
    return kept[0] if kept else None


def _linear_layers(head: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The last ones first."""
    return [(name, layer) for name, layer in reversed(list(head.named_modules())) if isinstance(layer, nn.Linear)]


def _scales(network: Network, layer: nn.Linear, name: str, given: tuple[Any, ...], each: bool) -> bool:
    """Whether logits scale as a layer's weights do. Powers of two divide without rounding."""
    logits: Tensor = network.head(*given).float()
    outputs = logits.shape[-1]
    if layer.out_features != outputs or not logits.any() or not logits.isfinite().all():
        return False
    divisors = torch.full((outputs,), 2.0, device=logits.device)
    if each:
        divisors[::2] = 4.0
    prefix = f"{name}." if name else ""
    changed = {f"{prefix}weight": (layer.weight / divisors[:, None]).to(layer.weight)}
    if layer.bias is not None:
        changed[f"{prefix}bias"] = (layer.bias / divisors).to(layer.bias)
    scaled: Tensor = functional_call(network.head, changed, given).float()
    return torch.allclose(scaled * divisors, logits, rtol=1e-4, atol=1e-6 * float(logits.abs().max()))
