"""Batches packed on the device from resident features equal those packed on the host."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertune.cuda.resident import ResidentFeatures, size_of
from bertune.features import IGNORED, Features, Ragged
from bertune.network import pack

lengths = st.lists(st.integers(1, 150), min_size=1, max_size=12)


def features(lengths: list[int], *, together: bool = False) -> Features:
    """Sequences of these lengths, with targets of every form; of three sequences each, where they go together."""
    rng = np.random.default_rng(sum(lengths))
    sizes = np.array(lengths)
    total, count = int(sizes.sum()), len(lengths)
    columns = [Ragged.from_lengths(rng.integers(0, 99, total).astype(np.int32), sizes) for _ in range(3)]
    return Features(
        columns[0],
        columns[1],
        (np.arange(count) // (3 if together else 1)).astype(np.int32),
        {
            "tag": columns[2],
            "label": rng.integers(0, 5, count).astype(np.int32),
            "marks": rng.random((count, 4)),
        },
        together=together,
    )


@given(lengths, st.data())
def test_equals_pack(lengths: list[int], data: st.DataObject) -> None:
    made = features(lengths, together=data.draw(st.booleans()))
    units = len(made.unit_lengths)
    chosen = np.array(data.draw(st.lists(st.integers(0, units - 1), min_size=1, max_size=6, unique=True)))
    ours, theirs = ResidentFeatures(made, torch.device("cpu")).pack(chosen), pack(made, chosen)
    real = theirs.layout.real
    assert ours.rows.tolist() == theirs.rows.tolist()
    for name in ("input_ids", "segment_ids", "positions"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert torch.equal(one[:real], other[:real]), name
        assert one.dtype == other.dtype
        assert not one[real:].any()
    assert list(ours.targets) == list(theirs.targets)
    for name, other in theirs.targets.items():
        one = ours.targets[name]
        assert one.dtype == other.dtype
        if name == "tag":
            assert (one[real:] == IGNORED).all()
            one, other = one[:real], other[:real]
        assert torch.equal(one, other), name
    layout = ours.layout
    assert torch.equal(layout.lengths, theirs.layout.lengths)
    assert torch.equal(layout.starts, theirs.layout.starts)
    assert layout.total == len(ours.input_ids)
    assert layout.real <= real <= layout.total
    assert layout.longest == max(lengths)


@given(lengths)
def test_sizes_are_few_and_tails_short(lengths: list[int]) -> None:
    tokens = sum(lengths)
    size = size_of(np.array(lengths))
    assert size.sequences == len(lengths)
    assert size.least <= tokens <= size.total
    assert size.total - tokens < max(128, tokens / 8 + 1)
    assert size_of(np.array([size.least])).total == size_of(np.array([size.total])).total == size.total


def test_a_batch_of_mrpc_comes_in_few_sizes() -> None:
    rng = np.random.default_rng(0)
    sizes = {size_of(np.clip(rng.normal(53, 13, 32), 15, 128).astype(int)) for _ in range(500)}
    assert len(sizes) <= 6


def test_columns_that_do_not_follow_the_tokens_are_refused() -> None:
    ids = Ragged.from_lists([[1, 2], [3]])
    made = Features(ids, ids, np.arange(2, dtype=np.int32), {"tag": Ragged.from_lists([[1], [2, 3]])})
    with pytest.raises(ValueError, match="one entry for every token"):
        ResidentFeatures(made, torch.device("cpu"))
