"""Work shared among ranks so that each has about as many tokens."""

import heapq
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def shares_by_cost(costs: Sequence[int] | npt.NDArray[np.integer], ranks: int) -> list[npt.NDArray[np.int64]]:
    """Which of some pieces of work each rank does: the costliest first, each to the rank that has least so far.

    The largest sum is at most 4/3 of the least possible one (Graham, 1969). Decided by the costs alone, the same on
    every rank; a rank may have nothing.

    Args:
        costs: of every piece; tokens.
        ranks: how many there are.

    Returns: the numbers of each rank's pieces, ascending.
    """
    loads = [(0, rank) for rank in range(ranks)]
    chosen: list[list[int]] = [[] for _ in range(ranks)]
    for piece in np.argsort(-np.asarray(costs, np.int64), kind="stable").tolist():
        load, rank = heapq.heappop(loads)
        chosen[rank].append(piece)
        heapq.heappush(loads, (load + int(costs[piece]), rank))
    return [np.array(sorted(pieces), np.int64) for pieces in chosen]
