"""An exponential moving average of the weights, which is evaluated and kept instead of the last weights.

Sources: Polyak & Juditsky, 1992, "Acceleration of stochastic approximation by averaging"; the slow start of the decay
is that of TensorFlow's `ExponentialMovingAverage`, without which the starting weights would dominate short runs.
"""

from collections.abc import Mapping

import torch
from torch import Tensor


class WeightAverage:
    """average ← d · average + (1 - d) · weight after every update, d = min(decay, (1 + n) / (10 + n)) at the n-th.

    values: the average, by the weights' names. Shape: those of the weights.
    updates: that it has seen.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        """Begins with the weights as they are.

        Args:
            weights: in float32, the tensors that updates change in place. Shape: any.
            decay: share of the average that stays at an update, once it has seen enough of them.
        """
        self._weights, self._decay = dict(weights), decay
        self.values = {name: weight.clone() for name, weight in weights.items()}
        self.updates = 0

    def update(self) -> None:
        """Take up the weights as they are after an update."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.values.values()), list(self._weights.values()), 1 - decay)

    def exchange(self) -> None:
        """Put the average in the weights' place, and the weights in the average's; a second time undoes it."""
        for name, weight in self._weights.items():
            before = weight.clone()
            weight.copy_(self.values[name])
            self.values[name].copy_(before)

    def state(self) -> dict[str, Tensor]:
        """What an exact continuation needs. Shape: those of the weights; `average.updates`: ()."""
        return {"average.updates": torch.tensor(self.updates)} | {
            f"average.{name}": value for name, value in self.values.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave. Shape: as there.

        Raises:
            KeyError: it lacks one of the tensors.
        """
        self.updates = int(state["average.updates"])
        for name, value in self.values.items():
            value.copy_(state[f"average.{name}"])
