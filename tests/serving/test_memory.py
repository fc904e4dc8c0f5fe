"""A million mixed items: what a service answers leaves nothing behind."""

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertune.serving import app
from tests.serving.conftest import ITEMS

Folders = Callable[[str], Path]

TASKS = ("text-classification", "token-classification", "question-answering", "embedding")
SINGLES, LISTS, ITEMS_A_LIST = 200_000, 8_000, 100
ROUNDS, CLIENTS = 20, 64
_WORDS = "the film is good bad Anna lives in Rome a 好 电影 ünïcode 🎬 [MASK] <b> 1234567".split()


def resident() -> float:
    """MiB of memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


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


async def ask(service: Any, path: str, body: bytes) -> int:
    """The status of one request, through the ASGI interface, as a server calls it."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("test", 1),
        "server": ("test", 80), "headers": [(b"content-length", str(len(body)).encode())],
    }  # fmt: skip
    sent: list[Any] = []
    unread, closed = [{"type": "http.request", "body": body}], asyncio.Event()

    async def receive() -> Any:
        if unread:
            return unread.pop()
        await closed.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await service(scope, receive, send)
    return int(sent[0]["status"])


@pytest.mark.torture
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_million_mixed_items_leave_nothing_behind(folders: Folders) -> None:
    service = app({task: folders(task) for task in TASKS})
    chance = random.Random(0)
    curve: list[float] = []

    async def client(share: int, count: int) -> None:
        for _ in range(share):
            path, body, wanted = request(chance, count)
            assert await ask(service, path, body) in wanted

    async def everybody() -> None:
        for number in range(ROUNDS):
            began = time.perf_counter()
            await asyncio.gather(*(client(SINGLES // ROUNDS // CLIENTS, 1) for _ in range(CLIENTS)))
            await asyncio.gather(*(client(LISTS // ROUNDS // 8, ITEMS_A_LIST) for _ in range(8)))
            curve.append(resident())
            print(f"round {number + 1}: {time.perf_counter() - began:.0f} s, {curve[-1]:.1f} MiB", flush=True)

    asyncio.run(everybody())
    service.state.service.models.close(5)
    print("MiB after each round:", " ".join(f"{value:.0f}" for value in curve))
    assert curve[-1] - curve[ROUNDS // 4] < 8, curve
