"""When updates are recorded, replayed or made directly; a recorder that calls the work stands for CUDA's graphs."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from bertune.cuda import recorded_updates as cuda_graphs
from bertune.cuda.recorded_updates import RecordedUpdates
from bertune.cuda.recording import Work
from bertune.cuda.resident import ResidentFeatures
from bertune.network import Batch, pack
from bertune.training.loop.loop import TrainingBatches, fit, update
from bertune.training.loop.state import TrainingSetup, TrainState
from tests.training import small_run

SEQUENCES, BATCH = 52, 8


class Calls:
    """A recorder that replays by calling. fails: which recording does.  waits: what updates are said to wait for."""

    def __init__(self, *, fails: int | None = None, waits: list[str] | None = None) -> None:
        self.fails, self.waits = fails, waits or []
        self.recorded = self.replayed = self.inside = 0

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        self.inside += 1
        yield

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[str]]:
        told: list[str] = []
        yield told
        told += self.waits

    def record(self, work: Work) -> Work:
        if self.recorded == self.fails:
            torch.rand(3)
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


def made(recorder: Calls | None) -> TrainingSetup:
    """A run whose batches are packed from resident features, with or without recorded updates."""
    data = ResidentFeatures(small_run.features(SEQUENCES), torch.device("cpu"))
    parts = small_run.parts(small_run.network(), data.features, on_device=True, make_batch=data.pack)
    graphs = None if recorder is None else RecordedUpdates(lambda: data, recorder, BATCH)
    return dataclasses.replace(parts, graphs=graphs)


def trained(recorder: Calls | None, *, epochs: int = 4, accumulation: int = 1) -> TrainingSetup:
    """After some epochs; the last batch of each is smaller."""
    parts = made(recorder)
    fit(parts, small_run.plan(epochs * 7, BATCH, accumulation), TrainState())
    return parts


def same(one: TrainingSetup, other: TrainingSetup) -> bool:
    a, b = one.optimizer.state(), other.optimizer.state()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_recorded_updates_are_the_same_bit_for_bit() -> None:
    recorder = Calls()
    assert same(trained(recorder), trained(None))
    assert recorder.inside == 28
    assert 1 <= recorder.recorded <= 4
    # Not the three of the warm-up, not the last of an epoch, and no size when it comes up first.
    assert 28 - 3 - 4 - 2 * recorder.recorded <= recorder.replayed <= 28 - 3 - 4


def test_the_order_of_direct_and_recorded_updates() -> None:
    recorder = Calls()
    parts = made(recorder)
    plan = small_run.plan(100, BATCH)
    rows = np.arange(BATCH)
    found = []
    for step in range(7):
        batch = rows[:-1] if step == 5 else rows
        numbers = update(parts, plan, batch, TrainState(step=step)).read()
        found.append((recorder.recorded, recorder.replayed))
        assert np.isfinite(numbers).all()
    assert found == [(0, 0), (0, 0), (0, 0), (1, 1), (1, 2), (1, 2), (1, 3)]


def test_a_recording_that_fails_is_the_last(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Calls(fails=1)
    with caplog.at_level(logging.WARNING):
        assert same(trained(recorder), trained(None))
    assert recorder.recorded == 1
    (told,) = [record.message for record in caplog.records if "CUDA graph" in record.message]
    assert "operation not permitted when stream is capturing)" in told


def test_updates_that_wait_are_not_recorded(caplog: pytest.LogCaptureFixture) -> None:
    recorder = Calls(waits=["losses.py:71"])
    with caplog.at_level(logging.INFO):
        assert same(trained(recorder), trained(None))
    assert recorder.recorded == recorder.replayed == 0
    assert any("losses.py:71" in record.message for record in caplog.records)


def test_batches_in_parts_are_not_recorded() -> None:
    recorder = Calls()
    assert same(trained(recorder, accumulation=2), trained(None, accumulation=2))
    assert recorder.inside == recorder.recorded == 0


def test_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_graphs, "MOST_GRAPHS", 1)
    recorder = Calls()
    assert same(trained(recorder), trained(None))
    assert recorder.recorded == 1


def test_a_run_that_is_taken_up_again_goes_on_the_same() -> None:
    plan = small_run.plan(28, BATCH)
    whole = trained(Calls())
    first = made(Calls())
    half = dataclasses.replace(plan, steps=14)
    progress = fit(first, dataclasses.replace(half, schedule=plan.schedule), TrainState())
    random = torch.get_rng_state()
    second = made(Calls())
    second.optimizer.restore({name: value.clone() for name, value in first.optimizer.state().items()})
    torch.set_rng_state(random)
    fit(second, plan, progress)
    assert same(second, whole)


def test_elsewhere_than_on_cuda_features_stay_on_the_host() -> None:
    data = small_run.features(4)
    batches = TrainingBatches(data, torch.device("cpu"))
    assert batches.resident is None
    assert batches.recorded_updates(small_run.network(), 2) is None
    assert torch.equal(batches.make(np.arange(2), 0).input_ids, pack(data, np.arange(2)).input_ids)


def test_updates_are_recorded_once_the_features_are_there() -> None:
    data = ResidentFeatures(small_run.features(SEQUENCES), torch.device("cpu"))
    parts = small_run.parts(small_run.network(), data.features, on_device=True, make_batch=data.pack)
    there: list[ResidentFeatures] = []
    recorder = Calls()
    graphs = RecordedUpdates(lambda: there[0] if there else None, recorder, BATCH)
    late = dataclasses.replace(parts, graphs=graphs)
    progress = fit(late, small_run.plan(8, BATCH), TrainState())
    assert recorder.recorded == recorder.replayed == 0
    there.append(data)
    fit(late, small_run.plan(24, BATCH), progress)
    assert recorder.replayed
    direct = small_run.parts(small_run.network(), data.features, on_device=True, make_batch=data.pack)
    progress = fit(direct, small_run.plan(8, BATCH), TrainState())
    fit(direct, small_run.plan(24, BATCH), progress)
    assert same(late, direct)


def test_out_of_memory_gives_back_what_recordings_hold() -> None:
    recorder = Calls()
    parts = made(recorder)
    assert parts.graphs is not None
    rows, plan = np.arange(BATCH), small_run.plan(100, BATCH)
    for step in range(5):
        update(parts, plan, rows, TrainState(step=step))
    assert parts.graphs.recorded == 1

    def runs_out(logits: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        if len(batch.layout) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return small_run.loss(logits, batch)

    progress = TrainState(step=5)
    update(dataclasses.replace(parts, loss=runs_out), plan, rows[:-1], progress)
    assert progress.micro_batches == 2
    assert parts.graphs.recorded == 0
    for step in range(6, 12):
        update(parts, plan, rows, TrainState(step=step))
    assert recorder.recorded == 1  # and no more of them
