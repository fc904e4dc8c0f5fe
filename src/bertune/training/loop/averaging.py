"""Averages of the weights, which are evaluated and kept instead of the last weights.

Sources: Polyak & Juditsky, 1992, "Acceleration of stochastic approximation by averaging"; the slow start of the decay
is that of TensorFlow's `ExponentialMovingAverage`, without which the starting weights would dominate short runs. The
mean of the last checkpoints: Vaswani et al., 2017, "Attention is all you need", section 6.1.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor


class Average(Protocol):
    """An average of the weights, as the optimizer keeps one."""

    def update(self) -> None:
        """After every update."""
        ...

    def before_evaluation(self, step: int) -> None:
        """Before the average is evaluated, after so many updates."""
        ...

    def exchange(self) -> None:
        """Put the average in the weights' place; a second time undoes it."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What an exact continuation needs, the same tensors at any time. Shape: those of the weights."""
        ...

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave. Shape: as there."""
        ...


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

    def before_evaluation(self, step: int) -> None:
        """Nothing: `update` has seen every update."""

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


class LastWeights:
    """The mean of the weights as they were at the last evaluations.

    steps: updates before each evaluation whose weights are kept; -1 where none is yet. Shape: (count,).
    """

    def __init__(self, weights: Mapping[str, Tensor], count: int) -> None:
        """Nothing is kept yet; until then the mean is the weights themselves.

        Args:
            weights: in float32, the tensors that updates change in place. Shape: any.
            count: evaluations whose weights are averaged.
        """
        self._weights = dict(weights)
        self._kept = [{name: torch.zeros_like(weight) for name, weight in weights.items()} for _ in range(count)]
        self.steps = torch.full((count,), -1)
        self._aside: dict[str, Tensor] | None = None

    def update(self) -> None:
        """Nothing: only evaluations count."""

    def before_evaluation(self, step: int) -> None:
        """Keep the weights as they are, in the oldest ones' place; once where an evaluation is begun again."""
        if step in self.steps.tolist():
            return
        oldest = int(self.steps.argmin())
        self.steps[oldest] = step
        for name, weight in self._weights.items():
            self._kept[oldest][name].copy_(weight)

    def mean(self, name: str) -> Tensor:
        """The mean of a weight. Shape: the weight's."""
        kept = [weights[name] for weights, step in zip(self._kept, self.steps.tolist(), strict=True) if step >= 0]
        return torch.stack(kept).mean(0) if kept else self._weights[name].clone()

    def exchange(self) -> None:
        """Put the mean in the weights' place; a second time puts the weights back."""
        aside = self._aside
        self._aside = None if aside else {name: weight.clone() for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            weight.copy_(aside[name] if aside else self.mean(name))

    def state(self) -> dict[str, Tensor]:
        """What an exact continuation needs. Shape: those of the weights; `last.steps`: (count,)."""
        return {"last.steps": self.steps} | {
            f"last.{i}.{name}": value for i, weights in enumerate(self._kept) for name, value in weights.items()
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up what `state` gave. Shape: as there.

        Raises:
            KeyError: it lacks one of the tensors.
        """
        self.steps.copy_(state["last.steps"])
        for i, weights in enumerate(self._kept):
            for name, value in weights.items():
                value.copy_(state[f"last.{i}.{name}"])
