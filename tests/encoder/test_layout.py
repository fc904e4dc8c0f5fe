"""Layouts: packed and padded forms carry the same tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertune.encoder.layout import Layout

LENGTHS = st.lists(st.integers(1, 9), min_size=1, max_size=6)


@given(LENGTHS, st.integers(0, 5))
def test_packed_tokens_come_back_from_the_padded_form(lengths: list[int], tail: int) -> None:
    layout = Layout.packed(lengths, total=sum(lengths) + tail)
    tokens = torch.arange(1.0, sum(lengths) + tail + 1)[:, None].repeat(1, 2)
    padded = layout.to_padded(tokens, fill=-1.0)
    assert padded.shape == (len(lengths), max(lengths), 2)
    assert torch.equal(padded[..., 0] == -1.0, ~layout.mask())
    back = layout.from_padded(padded)
    assert torch.equal(back[: layout.real], tokens[: layout.real])
    assert not back[layout.real :].any()


@given(LENGTHS)
def test_a_padded_layout_starts_every_sequence_at_its_stride(lengths: list[int]) -> None:
    layout = Layout.padded(lengths, 9)
    assert layout.starts.tolist() == [9 * i for i in range(len(lengths))]
    assert (layout.total, layout.real, layout.longest) == (9 * len(lengths), sum(lengths), 9)
    assert not layout.is_packed


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit into 3 rows"):
        Layout.packed([2, 2], total=3)
    with pytest.raises(ValueError, match="does not fit into a width of 3"):
        Layout.padded([2, 4], 3)


@given(LENGTHS, st.integers(0, 30), st.integers(0, 4))
def test_bounds_leave_no_row_without_a_sequence(lengths: list[int], tail: int, unsure: int) -> None:
    total = sum(lengths) + tail
    exact = Layout.packed(lengths, total=total)
    # As laid out on a device: of the real rows and of the greatest length the host knows only bounds.
    unsure_layout = Layout(exact.lengths, exact.starts, total, max(1, exact.real - unsure), exact.longest + unsure)
    for layout in (exact, unsure_layout):
        bounds = layout.bounds
        assert bounds.dtype == torch.int32
        assert bounds[: len(lengths) + 1].tolist() == [0, *torch.tensor(lengths).cumsum(0).tolist()]
        assert bounds[-1] == total
        assert bounds.diff().min() >= 0
        assert bounds.diff().max() <= layout.longest


@given(LENGTHS, st.integers(0, 5), st.integers(0, 4))
def test_a_bound_on_the_length_will_do(lengths: list[int], tail: int, unsure: int) -> None:
    exact = Layout.packed(lengths, total=sum(lengths) + tail)
    layout = Layout(exact.lengths, exact.starts, exact.total, exact.real, exact.longest + unsure)
    tokens = torch.rand(exact.total, 2, requires_grad=True)
    back = layout.from_padded(layout.to_padded(tokens))
    assert torch.equal(back[: exact.real], tokens[: exact.real])
    assert not back[exact.real :].any()
    (gradient,) = torch.autograd.grad(back.sum(), tokens)
    assert torch.equal(gradient, (torch.arange(exact.total) < exact.real).float()[:, None].expand(-1, 2))
