"""The default schedule, by hand; google-research/bert's form is compared with recorded rates in tests/google."""

import pytest

from bertune.training.loop.optimizer import Schedule


def test_rates_rise_to_the_peak_and_fall_to_zero() -> None:
    schedule = Schedule(peak=1.0, steps=10, warmup=2)
    assert [schedule(step) for step in range(11)] == pytest.approx(
        [0.5, 1.0, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8, 0.0]
    )


def test_without_a_warm_up_the_first_update_has_the_peak() -> None:
    schedule = Schedule(peak=2e-5, steps=4, warmup=0)
    assert [schedule(step) for step in range(4)] == pytest.approx([2e-5, 1.5e-5, 1e-5, 0.5e-5])


def test_a_run_of_warm_up_alone_and_steps_beyond_the_end() -> None:
    schedule = Schedule(peak=1.0, steps=3, warmup=3)
    assert [schedule(step) for step in range(5)] == pytest.approx([1 / 3, 2 / 3, 1.0, 0.0, 0.0])


@pytest.mark.parametrize(("decay", "half"), [("linear", 0.5), ("cosine", 0.5), ("constant", 1.0), ("polynomial", 0.25)])
def test_every_decay_begins_at_the_peak(decay: str, half: float) -> None:
    schedule = Schedule(peak=2.0, steps=10, warmup=2, decay=decay)
    assert schedule(1) == 2.0
    assert schedule(2) == pytest.approx(2.0)
    assert schedule(6) == pytest.approx(2.0 * half)
    assert schedule(10) == 0.0
    assert all(schedule(step) >= schedule(step + 1) for step in range(2, 10))


def test_cosine_is_pytorchs() -> None:
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 8)
    schedule = Schedule(peak=0.3, steps=8, warmup=0, decay="cosine")
    for step in range(8):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()
