"""The batcher on an engine whose answers can be told apart: order, company, faults, limits, ends."""

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bertune.errors import InputError
from bertune.features import Features, Ragged
from bertune.serving.batcher import Batcher
from bertune.serving.errors import ItemsError, RequestError
from bertune.serving.tickets import Ticket


class Lengths:
    """An engine whose items are numbers of tokens; -1 is refused, 13 tokens break a batch, 14 the decoding."""

    host_is_free = False

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.free = threading.Event()
        self.free.set()

    def example(self, item: Any) -> int:
        if item == -1:
            raise InputError("is negative")
        if item == -2:
            raise RuntimeError("a task's own fault")
        return int(item)

    def featurize(self, examples: Sequence[int]) -> Features:
        if 12 in examples:
            raise ValueError("cannot tokenize 12")
        ids = Ragged.from_lists([1] * length for length in examples)
        return Features(ids, ids, np.arange(len(examples), dtype=np.int32))

    def compute(self, groups: Sequence[Features]) -> list[list[Any]]:
        assert self.free.wait(20)
        self.batches.append(sum(group.tokens for group in groups))
        if any((group.input_ids.lengths == 13).any() for group in groups):
            raise RuntimeError("13 breaks the batch")
        return [[np.float32(length) for length in group.input_ids.lengths] for group in groups]

    def decode(self, examples: Sequence[int], features: Features, logits: Sequence[Any]) -> list[dict[str, Any]]:
        if 14 in examples and len(examples) == 1:
            raise ValueError("cannot decode 14")
        return [{"length": int(value)} for value in logits]


class Clients:
    """A batcher and a way to wait for its answers."""

    def __init__(self, *, batch: int = 100, queue: int = 1000, host_is_free: bool = False) -> None:
        self.engine = Lengths()
        self.engine.host_is_free = host_is_free
        self.measured: list[tuple[str, float]] = []
        self.order: list[int] = []
        self.batcher = Batcher(
            self.engine,  # type: ignore[arg-type]
            max_batch_tokens=batch,
            max_queue_tokens=queue,
            observe=lambda name, value: self.measured.append((name, value)),
        )

    def submit(self, items: list[int]) -> tuple[Ticket, threading.Event]:
        answered = threading.Event()

        def done() -> None:
            self.order.append(items[0])
            answered.set()

        ticket = Ticket(items, [abs(item) for item in items], done)
        self.batcher.submit(ticket)
        return ticket, answered

    def answers(self, items: list[int]) -> list[Any]:
        ticket, answered = self.submit(items)
        assert answered.wait(20)
        if ticket.error is not None:
            raise ticket.error
        return ticket.answers


@pytest.fixture(params=[False, True], ids=["the CPU computes", "the CPU is free"])
def clients(request: pytest.FixtureRequest) -> Any:
    made = Clients(host_is_free=request.param)
    yield made
    made.engine.free.set()
    assert made.batcher.close(20)


def test_everybody_gets_their_own_answers(clients: Clients) -> None:
    found: dict[int, list[Any]] = {}
    rng = np.random.default_rng(0)
    requests = {i: [int(n) for n in rng.integers(15, 60, rng.integers(1, 30))] for i in range(60)}
    clients.batcher.max_queue_tokens = 10**6
    threads = [threading.Thread(target=lambda i=i: found.update({i: clients.answers(requests[i])})) for i in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {i: [answer["length"] for answer in answers] for i, answers in found.items()} == requests
    assert clients.batcher.queued_tokens == 0
    assert max(clients.engine.batches) <= 100


def test_what_waits_is_computed_together_and_no_more_than_the_budget(clients: Clients) -> None:
    clients.engine.free.clear()
    first = clients.submit([20])
    deadline = time.monotonic() + 20
    while clients.batcher._tokenized or clients.batcher._waiting:  # until the compute thread has taken it
        assert time.monotonic() < deadline
        time.sleep(0.001)
    rest = [clients.submit([30]) for _ in range(5)]
    time.sleep(0.05)
    clients.engine.free.set()
    assert all(answered.wait(20) for _, answered in [first, *rest])
    assert clients.engine.batches == [20, 90, 60]


def test_an_item_above_the_budget_is_computed_alone(clients: Clients) -> None:
    assert clients.answers([500, 3, 400]) == [{"length": 500}, {"length": 3}, {"length": 400}]
    assert 500 in clients.engine.batches


def test_a_long_request_takes_turns_with_short_ones(clients: Clients) -> None:
    clients.batcher.max_queue_tokens = 10**6
    clients.engine.free.clear()
    _, long_done = clients.submit([25] * 200)
    shorts = [clients.submit([10 - i % 2])[1] for i in range(4)]
    clients.engine.free.set()
    assert all(short.wait(20) for short in shorts)
    assert not long_done.is_set() or clients.order[-1] == 25
    assert long_done.wait(20)
    assert clients.order[-1] == 25


@pytest.mark.parametrize("bad", [13, 14])
def test_an_item_that_breaks_its_batch_fails_alone(clients: Clients, bad: int) -> None:
    clients.engine.free.clear()
    good = [clients.submit([20 + i, 30]) for i in range(3)]
    poisoned, poisoned_done = clients.submit([bad])
    mixed, mixed_done = clients.submit([21, 13, 22])
    clients.engine.free.set()
    assert all(answered.wait(20) for _, answered in [*good, (poisoned, poisoned_done), (mixed, mixed_done)])
    assert [ticket.answers for ticket, _ in good] == [[{"length": 20 + i}, {"length": 30}] for i in range(3)]
    lengths = [(answer or {}).get("length") for answer in mixed.answers]
    assert lengths == [21, None, 22]
    assert (mixed.answers[1] or {})["error_type"] == "failed"
    assert clients.answers([16]) == [{"length": 16}]


def test_an_item_that_the_task_refuses_is_named(clients: Clients) -> None:
    with pytest.raises(ItemsError, match=r"item 1: is negative; item 3: is negative") as refused:
        clients.answers([1, -1, 2, -1])
    assert refused.value.status == 422
    with pytest.raises(RequestError, match=r"item 0: the task failed on it: RuntimeError: a task's own fault"):
        clients.answers([-2])
    with pytest.raises(RequestError, match=r"item 1: cannot tokenize 12"):
        clients.answers([5, 12])
    assert clients.batcher.queued_tokens == 0


def test_a_full_queue_refuses_singles_and_lists_alike(clients: Clients) -> None:
    clients.engine.free.clear()
    waiting = [clients.submit([90]) for _ in range(11)]
    for items in ([11], [1] * 11):
        with pytest.raises(RequestError) as refused:
            clients.submit(items)
        assert refused.value.status == 429
        assert int(refused.value.headers["Retry-After"]) >= 1
    with pytest.raises(RequestError) as refused:
        clients.submit([2000])
    assert refused.value.status == 413
    clients.engine.free.set()
    assert all(answered.wait(20) for _, answered in waiting)
    assert clients.answers([11]) == [{"length": 11}]


def test_what_nobody_waits_for_is_not_computed(clients: Clients) -> None:
    clients.engine.free.clear()
    _, first = clients.submit([20])
    time.sleep(0.05)
    fill = [clients.submit([100])[1] for _ in range(2)]  # keeps the tokenizing thread from going on
    time.sleep(0.05)
    gone, _ = clients.submit([40] * 3)
    clients.batcher.cancel(gone)
    clients.engine.free.set()
    assert first.wait(20)
    assert all(answered.wait(20) for answered in fill)
    assert clients.answers([7]) == [{"length": 7}]
    assert sum(clients.engine.batches) == 20 + 200 + 7
    assert clients.batcher.queued_tokens == 0


def test_closing_answers_what_waits_and_takes_nothing_new() -> None:
    clients = Clients()
    clients.engine.free.clear()
    waiting = [clients.submit([50, 60]) for _ in range(4)]
    closing = threading.Thread(target=clients.batcher.close, args=(20,))
    closing.start()
    time.sleep(0.05)
    with pytest.raises(RequestError) as refused:
        clients.submit([5])
    assert refused.value.status == 503
    clients.engine.free.set()
    closing.join(20)
    assert all(answered.is_set() for _, answered in waiting)
    assert not clients.batcher.alive


def test_measures_every_stage(clients: Clients) -> None:
    clients.answers([20, 30])
    names = {name for name, _ in clients.measured}
    assert {"tokenize_seconds", "compute_seconds", "batch_tokens", "batch_items"} <= names
    assert ("batch_tokens", 50) in clients.measured
