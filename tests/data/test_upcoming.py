"""Features made while they are read: equal to those made in one go, whoever asks for what and when."""

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch

from bertune.data import upcoming
from bertune.data.batching import shuffled_batches
from bertune.data.features import Features, pack
from bertune.data.subsets import of_examples
from bertune.data.upcoming import UpcomingFeatures
from bertune.errors import FaultError
from tests.data.test_feature_store import features, same

COUNT, BATCH = 103, 4
Places = npt.NDArray[np.int64]
WHOLE = features(COUNT)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcoming, "BLOCK", 10)


def part(places: Places) -> Features:
    """What tokenizing these examples alone would give."""
    return of_examples(WHOLE, places)[0]


def upcoming_features(
    make: Callable[[Places], Features], finished: Callable[[Features], None] = lambda _: None
) -> UpcomingFeatures:
    return UpcomingFeatures(make, COUNT, targets=lambda: WHOLE.targets, finished=finished, entries=1)


def batches(epoch: int = 0) -> list[Places]:
    return shuffled_batches(COUNT, BATCH, seed=7, epoch=epoch)


def same_batch(made: UpcomingFeatures, places: Places) -> None:
    one, other = pack(*made.of(places)), pack(WHOLE, places)
    assert torch.equal(one.input_ids, other.input_ids)
    assert torch.equal(one.positions, other.positions)
    assert one.targets.keys() == other.targets.keys()
    assert all(torch.equal(one.targets[name], other.targets[name]) for name in one.targets)


class Gate:
    """Makes a block each time it is opened; counts what it was asked."""

    def __init__(self, make: Callable[[Places], Features] = part) -> None:
        self._make, self._open = make, threading.Semaphore(0)
        self.asked: list[Places] = []

    def open(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self._open.release()

    def __call__(self, places: Places) -> Features:
        self.asked.append(places)
        assert self._open.acquire(timeout=30)
        return self._make(places)


def test_every_batch_and_the_whole_are_as_made_in_one_go() -> None:
    told: list[Features] = []
    made = upcoming_features(part, told.append)
    with made.begun(batches()):
        for epoch in range(2):
            for places in batches(epoch):
                same_batch(made, places)
    same(made.whole(), WHOLE)
    assert len(made) == COUNT
    assert [features is made.whole() for features in told] == [True]


def test_a_batch_waits_for_its_own_block_only() -> None:
    gate = Gate()
    made = upcoming_features(gate)
    ahead = batches()
    with made.begun(ahead):
        gate.open()
        for places in ahead[:3]:  # three batches of four make a block of at least ten
            same_batch(made, places)
        assert made.made() is None
        assert len(gate.asked) <= 2
        gate.open(100)
        same(made.whole(), WHOLE)
        assert made.made() is made.whole()
    assert np.concatenate(gate.asked).tolist() == np.concatenate(ahead).tolist()


def test_places_that_no_block_holds_together_wait_for_all() -> None:
    made = upcoming_features(part)
    with made.begun(batches()):
        same_batch(made, np.arange(COUNT)[::-1].copy())


def test_a_run_that_goes_on_begins_where_it_was() -> None:
    gate = Gate()
    gate.open(100)
    made = upcoming_features(gate)
    left = batches()[20:]
    with made.begun(left):
        for places in [*left, *batches(1)]:
            same_batch(made, places)
    assert gate.asked[0].tolist() == np.concatenate(left)[: len(gate.asked[0])].tolist()
    assert sorted(np.concatenate(gate.asked).tolist()) == list(range(COUNT))


def test_what_goes_wrong_is_told_where_it_is_needed() -> None:
    bad = int(batches()[-1][0])

    def make(places: Places) -> Features:
        if bad in places:
            raise ValueError("the example is bad")
        return part(places)

    made = upcoming_features(make)
    with made.begun(batches()):
        for places in batches()[:20]:
            same_batch(made, places)
        with pytest.raises(ValueError, match="the example is bad"):
            made.of(batches()[-1])
        with pytest.raises(ValueError, match="the example is bad"):
            made.whole()


def test_several_sequences_of_an_example_are_refused() -> None:
    made = upcoming_features(lambda places: part(np.repeat(places, 2)))
    with made.begun(batches()), pytest.raises(ValueError, match="should make one each"):
        made.of(batches()[0])


def test_a_lack_of_memory_is_not_told_as_the_update_s() -> None:
    def make(places: Places) -> Features:
        raise MemoryError

    made = upcoming_features(make)
    with made.begun(batches()), pytest.raises(FaultError, match="no memory to tokenize"):
        made.of(batches()[0])


def test_nobody_waits_for_what_is_done_with_all_features() -> None:
    written = threading.Event()
    told: list[bool] = []
    made = upcoming_features(part, lambda _: told.append(written.wait(30)))
    with made.begun(batches()):
        same(made.whole(), WHOLE)
        assert made.made() is made.whole()
        assert not written.is_set()
        written.set()
    assert told == [True]


def test_features_that_cannot_be_kept_serve_nevertheless(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: Features) -> None:
        raise MemoryError

    made = upcoming_features(part, fails)
    with made.begun(batches()):
        same(made.whole(), WHOLE)
    same_batch(made, batches()[3])
    assert "not kept" in caplog.text


def test_a_run_that_is_broken_off_does_not_wait_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upcoming, "_PATIENCE", 0.05)
    gate = Gate()
    made = upcoming_features(gate)

    def broken_off() -> None:
        with made.begun(batches()):
            raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert time.monotonic() - began < 5
    gate.open(2)


def test_targets_wait_for_nothing() -> None:
    made = upcoming_features(Gate())
    assert made.targets() is WHOLE.targets


def test_a_run_that_ends_early_leaves_no_thread() -> None:
    gate = Gate()
    told: list[Features] = []
    made = upcoming_features(gate, told.append)

    def cut_off() -> None:
        with made.begun(batches()):
            gate.open(2)
            same_batch(made, batches()[0])
            threading.Timer(0.3, gate.open).start()  # the block that the thread is at by then
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cut_off()
    assert not [thread for thread in threading.enumerate() if thread.name == "features"]
    assert made.made() is None
    assert not told
    gate.open()
    same(made.whole(), WHOLE)
    assert len(told) == 1
