"""Numbers of every row from which the metrics of a file follow, whichever of its rows are counted and how often.

Most metrics (F1, Matthews' correlation, Pearson's) are not means over rows, but they follow from sums over rows: of
right, found and true entities, of products. So a task gives a few numbers a row and a function from their sums to
metrics. Intervals draw rows again and again, slices choose some, ranks add their sums up, without the model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Union

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Floats = npt.NDArray[np.float64]
_SUMS_AT_ONCE = 1 << 21
"""Numbers of the largest array of sums under several weightings."""


@dataclass(frozen=True)
class RowMetrics:
    """How good the predictions for some rows are.

    statistics: numbers of every row; where most of them are 0, as one class of thousands has it, a sparse array.
        Shape: (rows, numbers).
    aggregate: from sums of the statistics to metrics by name. Shape: (…, numbers) → (…,) each.
    correct: whether a row's answer is wholly right, where there is such a thing. Shape: (rows,).
    by_rows: metrics that follow from no sums (rank correlation), from the statistics of the rows that count; not
        where these are sparse.
        Shape: (rows, numbers) → a number.
    independent: whether a row's numbers are the same whatever the other rows are.
    """

    statistics: Union[Floats, "csr_array"]
    aggregate: Callable[[Floats], Mapping[str, Floats]]
    correct: npt.NDArray[np.bool_] | None = None
    by_rows: Mapping[str, Callable[[Floats], float]] = field(default_factory=dict)
    independent: bool = True

    def __len__(self) -> int:
        return int(self.statistics.shape[0])

    @classmethod
    def means(cls, *, correct: npt.NDArray[np.bool_] | None = None, **columns: npt.ArrayLike) -> "RowMetrics":
        """Metrics that are plain means over rows.

        Args:
            correct: as above.
            columns: by the metric's name one number, or true and false, a row. Shape: (rows,) each.
        """
        values = [np.asarray(column, np.float64) for column in columns.values()]
        statistics = np.stack([np.ones_like(values[0]), *values], 1)

        def aggregate(sums: Floats) -> dict[str, Floats]:
            return {name: ratio(sums[..., i], sums[..., 0]) for i, name in enumerate(columns, 1)}

        return cls(statistics, aggregate, correct)

    def metrics(self) -> dict[str, float]:
        """Every metric, each row counted once."""
        found = {name: float(value) for name, value in self.aggregate(self.statistics.sum(0)).items()}
        return found | {name: measure(self.statistics) for name, measure in self.by_rows.items()}

    def metric(self, name: str, weights: Floats) -> Floats:
        """One metric under several weightings of the rows.

        Args:
            name: of the metric.
            weights: how often each row counts; whole numbers for metrics of `by_rows`. Shape: (weightings, rows).

        Returns: Shape: (weightings,).
        """
        return self.several([name], weights)[name]

    def several(self, names: Sequence[str], weights: Floats) -> dict[str, Floats]:
        """Several metrics under the same weightings. Shape: (weightings, rows) → (weightings,) each."""
        summed = [name for name in names if name not in self.by_rows]
        most = max(1, _SUMS_AT_ONCE // max(1, self.statistics.shape[1]))
        starts = range(0, len(weights), most) if summed else ()
        parts = [self.aggregate(weights[start : start + most] @ self.statistics) for start in starts]
        found = {name: np.concatenate([part[name] for part in parts]) for name in summed}
        others = [name for name in names if name in self.by_rows]
        values = np.zeros((len(others), len(weights)))
        for at, counts in enumerate(weights if others else ()):
            rows = np.repeat(self.statistics, counts.astype(np.int64), axis=0)
            values[:, at] = [self.by_rows[name](rows) for name in others]
        found |= dict(zip(others, values, strict=True))
        return {name: found[name] for name in names}


def ratio(part: Floats, whole: Floats) -> Floats:
    """Part / whole, 0 where whole is 0. Shape: any two that broadcast."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    result: Floats = np.divide(
        part, whole, out=np.zeros(np.broadcast_shapes(part.shape, whole.shape)), where=whole != 0
    )
    return result
