"""Counts of numbers within equal bins, of several groups over the same bins."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from bertune.tasks.row_metrics import Floats


def histogram(groups: Mapping[str, Floats], bins: int = 20) -> dict[str, Any]:
    """Shares of each group's numbers in equal bins over the range of all of them.

    Args:
        groups: numbers by name. Shape: (numbers,) each.
        bins: how many.

    Returns: `edges` (one more than bins), and by `groups` `count` and `shares`.
    """
    everything = np.concatenate([np.zeros(0), *groups.values()])
    if not len(everything):
        return {"edges": [], "groups": {}}
    edges = np.histogram_bin_edges(everything, bins)
    return {
        "edges": [float(edge) for edge in edges],
        "groups": {
            name: {
                "count": len(values),
                "shares": [float(x) / max(1, len(values)) for x in np.histogram(values, edges)[0]],
            }
            for name, values in groups.items()
        },
    }
