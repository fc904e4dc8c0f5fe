"""What a model's predictions for some rows came to, so that metrics can be had of any weighting of the rows."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bertune.data.subsets import of_examples
from bertune.features import Features
from bertune.tasks.protocol import Logits, Task
from bertune.tasks.row_metrics import Floats


class Outcomes(Protocol):
    """As `RowMetrics` has it: how many rows, which of them are right, and metrics under any weighting of them."""

    @property
    def correct(self) -> npt.NDArray[np.bool_] | None:
        """Whether a row's answer is wholly right, where there is such a thing. Shape: (rows,)."""
        ...

    def __len__(self) -> int: ...

    def metrics(self) -> dict[str, float]:
        """Every metric, each row counted once."""
        ...

    def metric(self, name: str, weights: Floats) -> Floats:
        """One metric under several weightings of the rows. Shape: (weightings, rows) → (weightings,)."""
        ...

    def several(self, names: Sequence[str], weights: Floats) -> dict[str, Floats]:
        """Several metrics under the same weightings. Shape: (weightings, rows) → (weightings,) each."""
        ...


class FromTask:
    """Outcomes of a task that has no `row_metrics`: its own metrics, computed anew for every weighting.

    Columns of its features must not count places among all examples: a resample holds others, some of them twice.
    """

    correct = None

    def __init__(self, task: Task[Any], logits: Logits, features: Features, examples: Sequence[Any]) -> None:
        self._task, self._logits, self._features, self._examples = task, logits, features, examples

    def __len__(self) -> int:
        return len(self._examples)

    def metrics(self) -> dict[str, float]:
        """The task's, each row counted once."""
        return self._task.metrics(self._logits, self._features, self._examples)

    def metric(self, name: str, weights: Floats) -> Floats:
        """One of them on rows drawn as often as the weights say, whole numbers here. Shape: as in `Outcomes`."""
        return self.several([name], weights)[name]

    def several(self, names: Sequence[str], weights: Floats) -> dict[str, Floats]:
        """Several of them likewise. Shape: as in `Outcomes`."""
        values: list[dict[str, float]] = []
        for counts in weights:
            drawn = np.repeat(np.arange(len(self._examples)), counts.astype(np.int64))
            part, rows = of_examples(self._features, drawn)
            examples = [self._examples[i] for i in drawn.tolist()]
            values.append(self._task.metrics([self._logits[i] for i in rows], part, examples))
        return {name: np.array([one[name] for one in values], np.float64) for name in names}
