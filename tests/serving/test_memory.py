"""A million mixed items: what a service answers leaves nothing behind."""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertune.serving.memory import Heap, limit_caches
from tests.nursery import Nursery
from tests.serving.conftest import ITEMS
from tests.serving.test_process import started

Folders = Callable[[str], Path]

TASKS = ("text-classification", "token-classification", "question-answering", "embedding")
SINGLES, LISTS, ITEMS_A_LIST = 200_000, 8_000, 100
ROUNDS, CLIENTS = 20, 64
_WORDS = "the film is good bad Anna lives in Rome a 好 电影 ünïcode 🎬 [MASK] <b> 1234567".split()


def resident(pid: int) -> float:
    """MiB of memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def request(chance: random.Random, count: int) -> tuple[str, bytes, set[int]]:
    """An address, a body, and the statuses that answer it: mostly items, some faults of every kind."""
    task = chance.choice(TASKS)
    path, kind = f"/v1/models/{task}/predict", chance.random()
    if count == 1 and kind < 0.02:
        return f"/v1/models/none-{chance.randrange(10**9)}/predict", b'{"inputs": ["a"]}', {404}
    if count == 1 and kind < 0.04:
        return path, b'{"inputs": [', {400}
    if count == 1 and kind < 0.06:
        return path, json.dumps({"inputs": [chance.randrange(10**9)]}).encode(), {422}
    items: list[Any] = [chance.choice(ITEMS[task]) for _ in range(count)]
    if task in {"text-classification", "embedding"}:
        items = [" ".join(chance.choices(_WORDS, k=chance.randint(1, 25))) for _ in range(count)]
    return path, json.dumps({"inputs": items}).encode(), {200, 429}


async def ask(stream: tuple[asyncio.StreamReader, asyncio.StreamWriter], path: str, body: bytes) -> int:
    """The status of one request on an open connection."""
    reader, writer = stream
    writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])


@pytest.mark.torture
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_million_mixed_items_leave_nothing_behind(folders: Folders, nursery: Nursery) -> None:
    models = [f"{task}={folders(task)}" for task in TASKS]
    child, url = started(nursery, "--model", *models, "--no-access-log")
    port = int(url.rpartition(":")[2])
    chance = random.Random(0)
    curve: list[float] = []

    async def client(share: int, count: int) -> None:
        stream = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(share):
            path, body, wanted = request(chance, count)
            assert await ask(stream, path, body) in wanted
        stream[1].close()

    async def watch() -> None:
        while True:
            curve[-1] = max(curve[-1], resident(child.pid))
            await asyncio.sleep(0.02)

    async def everybody() -> None:
        for number in range(ROUNDS):
            began = time.perf_counter()
            curve.append(0.0)
            watching = asyncio.create_task(watch())
            await asyncio.gather(*(client(SINGLES // ROUNDS // CLIENTS, 1) for _ in range(CLIENTS)))
            await asyncio.gather(*(client(LISTS // ROUNDS // 8, ITEMS_A_LIST) for _ in range(8)))
            watching.cancel()
            print(f"round {number + 1}: {time.perf_counter() - began:.0f} s, {curve[-1]:.1f} MiB", flush=True)

    asyncio.run(everybody())
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    print("most MiB in each round:", " ".join(f"{value:.0f}" for value in curve))
    early, later = curve[: ROUNDS // 4 + 1], curve[ROUNDS // 4 + 1 :]
    assert max(later) - max(early) < 8, curve


def test_caches_by_shape_are_limited_unless_the_environment_says_otherwise() -> None:
    given = {"LRU_CACHE_CAPACITY": "7"}
    limit_caches(given)
    assert given == {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "7"}
    former = {"DNNL_PRIMITIVE_CACHE_CAPACITY": "9"}
    limit_caches(former)
    assert former == {"DNNL_PRIMITIVE_CACHE_CAPACITY": "9", "LRU_CACHE_CAPACITY": "32"}


def test_heaps_are_trimmed_seldom_and_sooner_when_nothing_waits() -> None:
    now, trimmed = [100.0], list[float]()
    heap = Heap(lambda: trimmed.append(now[0]), lambda: now[0])
    for time_, idle in ((109, True), (111, False), (112, True), (121, True), (123, True), (152, False), (154, False)):
        now[0] = time_
        heap.between_batches(idle=idle)
    assert trimmed == [112, 123, 154]


def test_a_trim_holds_up_no_other_thread() -> None:
    now = [0.0]
    heap = Heap(lambda: heap.between_batches(idle=True), lambda: now[0])  # would wait for itself for ever
    now[0] = 1000
    heap.between_batches(idle=True)


def test_without_glibc_nothing_is_trimmed() -> None:
    Heap(None, lambda: 1e9).between_batches(idle=True)
