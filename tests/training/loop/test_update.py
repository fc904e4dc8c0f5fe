"""One update: in parts, with activations computed twice, and after memory ran out, it is the same update."""

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bertune.errors import FaultError
from bertune.features import IGNORED
from bertune.network import Batch, BatchLoss
from bertune.tasks.options import LossOptions
from bertune.tasks.shared.heads import cross_entropy
from bertune.training.loop.loop import update
from bertune.training.loop.state import TrainingSetup, TrainState
from tests.training import small_run


def gradients(parts: TrainingSetup, accumulation: int, rows: np.ndarray) -> dict[str, Tensor]:
    """The mean's gradients of a batch of 32 that is computed in so many parts, from Adam's first mean of them."""
    plan = small_run.plan(10, 32, accumulation)
    update(parts, plan, rows, TrainState())
    return {name: value / 0.1 for name, value in parts.optimizer.state().items() if name.startswith("m.")}


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """How far gradients are apart, beside their norm."""
    difference = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    return math.sqrt(difference / max(sum(float(value.double().square().sum()) for value in expected.values()), 1e-30))


def token_loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """One term for every third token: parts of a batch have unequal numbers of them."""
    target = torch.where(batch.input_ids % 3 == 1, batch.input_ids % 2, IGNORED)
    return cross_entropy(logits, target, LossOptions())


@pytest.mark.parametrize("of", ["sequences", "tokens"])
@pytest.mark.parametrize("on_device", [False, True])
def test_four_parts_of_eight_are_a_batch_of_32(of: str, on_device: bool) -> None:
    data, rows = small_run.features(40), np.arange(3, 35)

    def made() -> TrainingSetup:
        net = small_run.network(dropout=0.0)
        own: BatchLoss = small_run.loss
        if of == "tokens":
            net, own = small_run.network(dropout=0.0, tokens=True), token_loss
        return dataclasses.replace(small_run.parts(net, data, on_device=on_device), loss=own)

    whole, in_parts = gradients(made(), 1, rows), gradients(made(), 4, rows)
    for name, expected in whole.items():
        assert apart({name: in_parts[name]}, {name: expected}) < 2e-6, name
    assert apart(in_parts, whole) < 1e-6
    # The mean over all, not the mean of the parts' means.
    assert of == "sequences" or apart(gradients(made(), 1, rows[:8]), whole) > 0.01


@pytest.mark.parametrize("kernels", [True, False])
def test_activations_computed_twice_are_the_same(kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertune.encoder.kernels import build

    if not kernels:
        monkeypatch.setenv("BERTUNE_KERNELS", "off")
    build.library.cache_clear()
    data, rows = small_run.features(40), np.arange(32)
    found = []
    for twice in (False, True):
        net = small_run.network(dropout=0.3)
        net.encoder.activation_checkpointing = twice
        parts = small_run.parts(net, data)
        for step in range(3):
            update(parts, small_run.plan(10, 32), rows, TrainState(step=step))
        found.append(parts.optimizer.state() | {"random": torch.get_rng_state()})
    monkeypatch.undo()
    build.library.cache_clear()
    for name, expected in found[0].items():
        assert torch.equal(found[1][name], expected), name


class RunsOut:
    """A loss that lacks the memory for more than so many sequences at a time."""

    def __init__(self, most: int, error: type[Exception] = RuntimeError, told: str = "") -> None:
        self.most, self.error = most, error
        self.told = told or "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"

    def __call__(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        torch.rand(5)
        if len(batch.layout) > self.most:
            raise self.error(self.told)
        return small_run.loss(logits, batch)


def run(most: int, accumulation: int, error: type[Exception] = RuntimeError) -> tuple[TrainingSetup, TrainState]:
    data, rows = small_run.features(40), np.arange(32)
    parts = small_run.parts(small_run.network(), data)
    parts = dataclasses.replace(parts, loss=RunsOut(most, error))
    progress = TrainState()
    for step in range(3):
        progress.step = step
        update(parts, small_run.plan(10, 32, accumulation), rows, progress)
    return parts, progress


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, torch.OutOfMemoryError])
def test_an_update_that_runs_out_of_memory_begins_anew_in_more_parts(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        (short, progress), (planned, _) = run(9, 1, error), run(9, 4)
    assert progress.micro_batches == 4
    told = [record.message for record in caplog.records if record.name == "bertune.training.loop.loop"]
    assert [message.rpartition(" in ")[2] for message in told] == ["2 parts", "4 parts"]
    ours, theirs = short.optimizer.state(), planned.optimizer.state()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_other_errors_are_not_taken_for_it() -> None:
    data = small_run.features(8)
    parts = small_run.parts(small_run.network(), data)
    parts = dataclasses.replace(parts, loss=RunsOut(0, RuntimeError, "shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        update(parts, small_run.plan(10), np.arange(8), TrainState())


def test_memory_that_is_too_short_for_one_sequence_is_told() -> None:
    with pytest.raises(FaultError, match=r"a single sequence .*--activation-checkpointing"):
        run(0, 1)


@pytest.mark.parametrize("on_device", [False, True])
def test_a_loss_that_is_not_finite_changes_nothing(on_device: bool) -> None:
    parts = small_run.parts(small_run.network(), small_run.features(8), on_device=on_device)

    def lost(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        # Infinite, with finite gradients.
        total, count = small_run.loss(logits, batch)
        return total + torch.inf, count

    before = {name: value.clone() for name, value in parts.optimizer.state().items()}
    numbers = update(dataclasses.replace(parts, loss=lost), small_run.plan(10), np.arange(8), TrainState())
    assert not math.isfinite(numbers.read()[1])
    assert all(torch.equal(value, before[name]) for name, value in parts.optimizer.state().items())
