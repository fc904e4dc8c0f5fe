"""Features of some of the examples, in any order and as often as asked."""

import numpy as np
import numpy.typing as npt

from bertune.features import Column, Features, Ragged


def of_examples(features: Features, examples: npt.NDArray[np.integer]) -> tuple[Features, npt.NDArray[np.int64]]:
    """The features of the examples at these places, in that order, an example again wherever it is named again.

    Returns: the features, their example_index counting the places in `examples`; and which sequences they are.
    """
    first = np.searchsorted(features.example_index, examples, side="left")
    counts = np.searchsorted(features.example_index, examples, side="right") - first
    rows = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(int(counts.sum()))
    return Features(
        features.input_ids.take(rows),
        features.segment_ids.take(rows),
        np.repeat(np.arange(len(examples)), counts).astype(np.int32),
        {name: _take(column, rows) for name, column in features.targets.items()},
        features.cut[rows] if len(features.cut) else features.cut,
        {
            # what is one for all sequences (a table) stays as it is
            name: _take(column, rows) if len(column) == len(features) else column
            for name, column in features.extras.items()
        },
        features.together,
    ), rows.astype(np.int64)


def _take(column: Column, rows: npt.NDArray[np.integer]) -> Column:
    return column.take(rows) if isinstance(column, Ragged) else column[rows]
