"""The temperatures of a run's last model, folded into the weights that are saved."""

import logging
from collections.abc import Mapping
from typing import Any
from weakref import WeakSet

from torch import Tensor

from bertune.model.calibration import folded, temperatures_of
from bertune.model.final_layer import final_layer
from bertune.network import Network
from bertune.tasks.protocol import Task
from bertune.training.loop.state import Evaluation
from bertune.training.prepare import Split

logger = logging.getLogger(__name__)

_TOLD: WeakSet[Network] = WeakSet()
"""Networks whose runs have said why there is no temperature."""


def calibrated(
    weights: Mapping[str, Tensor], network: Network, task: Task[Any], evaluation: Evaluation, split: Split
) -> tuple[Mapping[str, Tensor], dict[str, Any] | None]:
    """Weights at the temperatures of their evaluation, and what is recorded of these; or a line on why none.

    Args:
        weights: as trained. Shape: those of the network.
        network: as trained.
        task: as it was before validation rows tuned it.
        evaluation: of the validation rows.
        split: the validation rows.
    """
    features, examples, temperatures = split.features, split.examples, evaluation.temperatures
    if temperatures:
        layer = final_layer(network, task, features, each=len(temperatures) > 1)
        if layer is not None and set(temperatures) != {1.0}:
            weights = folded(weights, temperatures, layer)
        return weights, {"temperatures": list(temperatures), "rows": len(examples)}
    if evaluation.logits is not None:
        why = temperatures_of(network, task, evaluation.logits, features, examples, tune=True).why_none
        if why and network not in _TOLD:  # every better model is saved, and this is the same for all of them
            _TOLD.add(network)
            logger.info("%s: scores are as the head gives them, without a temperature: %s", task.name, why)
    return weights, None
