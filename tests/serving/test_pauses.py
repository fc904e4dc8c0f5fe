"""The pause between two batches: the event loop does what is ready, and what comes of it."""

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from bertune.serving import pauses
from bertune.serving.pauses import LoopPause


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def test_requests_that_follow_the_answers_are_in_when_it_ends(loop: asyncio.AbstractEventLoop) -> None:
    pause, arrived = LoopPause(), []
    pause.follow(loop)

    async def client() -> None:
        for _ in range(3):  # the answer is written, the next request read, its task begun
            await asyncio.sleep(0)
        arrived.append(1)

    for _ in range(50):
        loop.call_soon_threadsafe(lambda: loop.create_task(client()))
    pause.take(lambda: len(arrived))
    assert len(arrived) == 50


def test_it_ends_though_requests_never_stop_coming(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pause, arrived = LoopPause(), []
    pause.follow(loop)
    monkeypatch.setattr(pauses, "SECONDS", 0.02)

    def again() -> None:
        arrived.append(1)
        loop.call_soon(again)

    loop.call_soon_threadsafe(again)
    began = time.perf_counter()
    pause.take(lambda: len(arrived))
    assert time.perf_counter() - began < 5


def test_without_a_loop_there_is_none() -> None:
    pause = LoopPause()
    pause.take(lambda: 0)
    closed = asyncio.new_event_loop()
    closed.close()
    pause.follow(closed)
    began = time.perf_counter()
    pause.take(lambda: 0)
    assert time.perf_counter() - began < pauses.SECONDS
