"""The order of training sequences."""

import numpy as np
import pytest

from bertune.google.stream import Buffered, Shuffled


def test_every_epoch_is_a_new_order_that_a_run_can_enter_anywhere() -> None:
    stream = Shuffled(10, 4, seed=0)
    seen = np.concatenate([stream.rows(step) for step in range(10)])
    assert all(sorted(seen[start : start + 10]) == list(range(10)) for start in range(0, 40, 10))
    assert not np.array_equal(seen[:10], seen[10:20])
    np.testing.assert_array_equal(Shuffled(10, 4, seed=0).rows(7), stream.rows(7))
    assert len(Shuffled(3, 8, seed=0).rows(1)) == 8, "a batch may be longer than the data"


def test_a_buffer_shuffles_nearby_records_only() -> None:
    stream = Buffered(1000, 50, seed=0)
    drawn = np.concatenate([stream.rows(step) for step in range(30)])
    assert len(set(drawn[:900].tolist())) == 900, "no repetition before the file's end comes near"
    assert (drawn[:900] <= np.arange(900) + 100).all(), "a record is drawn from the next hundred"


def test_a_buffers_run_begins_at_its_first_step_and_gives_a_step_twice() -> None:
    early, late = Buffered(1000, 5, seed=0), Buffered(1000, 5, seed=0, first=7)
    np.testing.assert_array_equal(late.rows(7), early.rows(0))
    np.testing.assert_array_equal(late.rows(7), early.rows(0))
    with pytest.raises(ValueError, match="step 6"):
        late.rows(6)
