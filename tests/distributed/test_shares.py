"""Work dealt out by its cost."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bertune.distributed.shares import shares_by_cost


@given(st.lists(st.integers(1, 500), max_size=60), st.integers(1, 8))
def test_every_piece_once_and_evenly(costs: list[int], ranks: int) -> None:
    shares = shares_by_cost(costs, ranks)
    assert len(shares) == ranks
    assert sorted(int(piece) for share in shares for piece in share) == list(range(len(costs)))
    assert all(np.array_equal(share, np.sort(share)) for share in shares)
    loads = [sum(costs[piece] for piece in share) for share in shares]
    # Whoever has most got its last piece when it had least (Graham, 1969).
    assert max(loads) <= sum(costs) / ranks + max(costs, default=0)


def test_two_long_ones_go_to_two_ranks() -> None:
    assert [share.tolist() for share in shares_by_cost([100, 1, 1, 100, 1], 2)] == [[0, 1, 4], [2, 3]]
