"""What clients and operators do to a running service at the worst moment: real processes, nothing mocked."""

import asyncio
import contextlib
import json
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.nursery import Nursery
from tests.serving import read_only
from tests.serving.test_process import started

Folders = Callable[[str], Path]
PREDICT = "/v1/models/m/predict"


def predict_request(body: bytes, length: int | None = None, extra: str = "") -> bytes:
    """A request as bytes; length: what it says of its body, if not the truth."""
    head = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body) if length is None else length}\r\n"
    return (head + extra + "\r\n").encode() + body


def metric(url: str, name: str) -> float:
    """The sum over all labels of one of the service's numbers."""
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def connected(url: str) -> socket.socket:
    """A connection to the service."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    return socket.create_connection((host, int(port)), timeout=60)


def answers(url: str, count: int = 1) -> list[Any]:
    """To texts that are all the same."""
    return list(httpx.post(url + PREDICT, json={"inputs": ["film is good"] * count}, timeout=60).json()["predictions"])


def until(true: Callable[[], bool]) -> None:
    """Wait for something that must come; the test's own time limit ends it."""
    while not true():
        threading.Event().wait(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mounts of a process's own")
def test_a_read_only_folder_is_served_explained_and_loaded_again(
    folders: Folders, nursery: Nursery, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders("text-classification"), folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    child = nursery.start(
        folder, "--model", f"m={folder}", "--port", 0, "--device", "cpu", call="tests.serving.read_only:serve"
    )
    until(lambda: "serving on http://" in child.told or child.ended())
    if child.ended() and child.wait() == read_only.REFUSED:
        pytest.skip("this system lets nobody mount")
    url = child.told.partition("serving on ")[2].split()[0]
    first = answers(url)
    assert httpx.post(f"{url}/v1/models/m/explain", json={"input": "film is good"}, timeout=60).is_success
    child.send(signal.SIGHUP)
    child.until("replaces")
    assert answers(url) == first
    assert "Traceback" not in child.told
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_clients_that_go_away_leave_nothing_in_the_queue(folders: Folders, nursery: Nursery) -> None:
    child, url = started(
        nursery, "--model", f"m={folders('text-classification')}", "--max-batch-tokens", 64,
        "--max-queue-tokens", 10**7,
    )  # fmt: skip
    body = json.dumps({"inputs": ["the film is good " * 5] * 20_000}).encode()
    for size in (0, 10, len(body) // 2):  # in the head, and in the body
        with connected(url) as gone:
            gone.sendall(predict_request(body[:size], len(body)))
    for _ in range(3):  # and while it is computed: the body is larger than what the server reads ahead
        with connected(url) as gone:
            gone.sendall(predict_request(body))
            waiting = metric(url, "bertune_dropped_total")
            until(lambda: metric(url, "bertune_queue_tokens") > 0)
        until(lambda: metric(url, "bertune_dropped_total") > waiting)  # noqa: B023
        until(lambda: metric(url, "bertune_queue_tokens") == 0)
    assert len(answers(url, 5)) == 5
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert "Traceback" not in child.told
    assert "499" in child.told


def test_bodies_that_stop_in_the_middle_hold_up_nobody(folders: Folders, nursery: Nursery) -> None:
    child, url = started(nursery, "--model", f"m={folders('text-classification')}")
    body = json.dumps({"inputs": ["film is good"]}).encode()
    halves = [connected(url) for _ in range(20)]
    for half in halves:
        half.sendall(predict_request(body[:-4], len(body)))
    expected = answers(url)
    for half in halves:
        with half:
            half.sendall(body[-4:])
            head, _, found = half.recv(65536).partition(b"\r\n\r\n")
            while not found:
                found = half.recv(65536)
            assert b" 200 " in head.splitlines()[0]
            assert json.loads(found)["predictions"] == expected
    child.send(signal.SIGTERM)
    assert child.wait() == 0


def test_requests_that_contradict_themselves(folders: Folders, nursery: Nursery) -> None:
    child, url = started(nursery, "--model", f"m={folders('text-classification')}")
    body = json.dumps({"inputs": ["film"]}).encode()
    first_line = f"POST {PREDICT} HTTP/1.1\r\nhost: x\r\n".encode()
    chunked = b"transfer-encoding: chunked\r\n"
    for sent, status in {
        first_line + b"content-length: -1\r\n\r\n": 400,
        first_line + b"content-length: 5\r\ncontent-length: 500\r\n\r\n" + body: 400,
        first_line + b"content-length: 5\r\n" + chunked + b"\r\n0\r\n\r\n": 400,
        first_line + b"content-length: 99999999999999999999\r\n\r\n": 400,
        first_line + b"content-length: 99999999999\r\n\r\n": 413,
        first_line + chunked + b"\r\nzz\r\n": 400,
        first_line + chunked + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body): 200,
        first_line + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body) + body: 200,
        b"POST http://elsewhere" + PREDICT.encode() + b" HTTP/1.1\r\nhost: x\r\n\r\n": 400,
        b"GET /%ff%00%0a HTTP/1.1\r\nhost: x\r\n\r\n": 404,
        b"PATCH " + PREDICT.encode() + b" HTTP/1.0\r\n\r\n": 405,
    }.items():
        with connected(url) as connection:
            connection.sendall(sent)
            head = connection.recv(65536).replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
            while not head:
                head = connection.recv(65536)
        assert int(head.split(b" ", 2)[1]) == status, (sent, head)
    assert len(answers(url)) == 1
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert "Traceback" not in child.told


def test_an_offer_to_speak_another_protocol_is_passed_over(folders: Folders, nursery: Nursery) -> None:
    """Java's client offers HTTP/2 with every request; a browser may ask for a WebSocket."""
    child, url = started(nursery, "--model", f"m={folders('text-classification')}")
    body = json.dumps({"inputs": ["film"]}).encode()
    offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
    socket_ = b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    for sent in (predict_request(body, extra=offer), socket_):
        with connected(url) as connection:
            for _ in range(3):
                connection.sendall(sent)
                answer = connection.recv(65536)
                while not answer.endswith(b"}"):
                    answer += connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 ")
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert "upgrade" not in child.told


def test_enormous_lists_are_refused_or_answered_and_short_requests_go_on(folders: Folders, nursery: Nursery) -> None:
    child, url = started(
        nursery, "--model", f"m={folders('text-classification')}", "--max-body-bytes", 3_000_000, "--max-queue-tokens",
        100_000,
    )  # fmt: skip
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(answers, url, 12_000)
        short = [len(answers(url)) for _ in range(20)]
        assert short == [1] * 20
        assert len(many.result()) == 12_000
    for inputs, status, told in (
        (["a"] * 200_000, 413, "split it"),
        ([[]] * 200_000, 413, "split it"),
        (["a"] * 900_000, 413, "larger than 3000000 bytes"),
        ([{"text": "a" * 1_000_000}] * 2, 200, ""),
        ([["a", "b", "c"]] * 10_000, 422, "and 9995 more items"),
        (list(range(10_000)), 422, "and 9995 more items"),
    ):
        response = httpx.post(url + PREDICT, json={"inputs": inputs}, timeout=60)
        assert (response.status_code, told in response.text) == (status, True), response.text[:300]
        assert status == 200 or len(response.content) < 5000
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert "Traceback" not in child.told


def test_options_that_change_answers_never_mix(folders: Folders, nursery: Nursery) -> None:
    """Requests of many forms at once: each has the answer that it has alone."""
    models = [f"{name}={folders(name)}" for name in ("text-classification", "mrpc", "embedding")]
    child, url = started(nursery, "--model", *models, "--no-access-log")
    long = "film is good " * 40
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/v1/models/text-classification/predict", {"inputs": [long]}),
        ("/v1/models/text-classification/predict", {"inputs": [long], "truncate": False}),
        ("/v1/models/text-classification/predict", {"inputs": ["film", ["film", "is good"]]}),
        ("/v1/models/mrpc/predict", {"inputs": [["film", "is good"]]}),
        ("/v1/models/mrpc/predict", {"inputs": ["film"]}),
        ("/v1/models/embedding/predict", {"inputs": [long, "film"]}),
        ("/", {"inputs": long, "parameters": {"top_k": 1}}),
        ("/", {"inputs": long}),
        ("/predict", {"inputs": long, "truncate": True}),
        ("/v2/models/mrpc/infer", {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}),
    ]

    async def ask(client: httpx.AsyncClient, place: int) -> tuple[int, int, Any]:
        path, body = requests[place]
        response = await client.post(path, json=body)
        return place, response.status_code, response.json()

    async def everybody() -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            alone = [await ask(client, place) for place in range(len(requests))]
            found = await asyncio.gather(*(ask(client, i % len(requests)) for i in range(300)))
        assert all(one == alone[one[0]] for one in found)
        statuses = [one[1] for one in alone]
        assert statuses[:6] == [200, 422, 200, 200, 422, 200]

    asyncio.run(everybody())
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert "Traceback" not in child.told


def test_reloading_under_load_loses_no_request(folders: Folders, nursery: Nursery, tmp_path: Path) -> None:
    """Good and broken folders in turn, several reloads at once, while clients never stop asking."""
    folder, keys = tmp_path / "model", tmp_path / "keys"
    shutil.copytree(folders("text-classification"), folder)
    keys.write_text("key\n")
    child, url = started(nursery, "--model", f"m={folder}", "--api-key-file", keys, "--no-access-log")
    config = (folder / "config.json").read_text()

    async def client(stop: asyncio.Event, expected: Any) -> int:
        count = 0
        async with httpx.AsyncClient(base_url=url, timeout=60, headers={"x-api-key": "key"}) as one:
            while not stop.is_set():
                response = await one.post(PREDICT, json={"inputs": ["film is good"] * 3})
                assert (response.status_code, response.json()["predictions"]) == (200, expected)
                count += 1
        return count

    async def everybody() -> None:
        stop = asyncio.Event()
        async with httpx.AsyncClient(base_url=url, timeout=60, headers={"x-api-key": "key"}) as boss:
            expected = (await boss.post(PREDICT, json={"inputs": ["film is good"] * 3})).json()["predictions"]
            clients = [asyncio.create_task(client(stop, expected)) for _ in range(8)]
            for turn in range(4):
                (folder / "config.json").write_text(config if turn % 2 else "{")
                done = await asyncio.gather(*(boss.post("/v1/models/m/reload") for _ in range(3)))
                assert {one.status_code for one in done} == {200 if turn % 2 else 409}
            stop.set()
            assert min(await asyncio.gather(*clients)) > 0

    asyncio.run(everybody())
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert "Traceback" not in child.told


def test_sigterm_under_load_answers_or_refuses_every_request(folders: Folders, nursery: Nursery) -> None:
    """No request that was taken is lost: 200, or 503, or a connection that takes no more requests."""
    child, url = started(nursery, "--model", f"m={folders('text-classification')}", "--no-access-log")
    expected = answers(url, 20)
    statuses: list[int] = []

    def client(_: int) -> None:
        with httpx.Client(base_url=url, timeout=60) as one, contextlib.suppress(httpx.ConnectError):
            while True:
                try:
                    response = one.post(PREDICT, json={"inputs": ["film is good"] * 20})
                except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
                    return  # closed between two requests, as HTTP allows; that none was taken is what the log says
                statuses.append(response.status_code)
                if response.status_code != 200:
                    assert response.headers["connection"] == "close"
                    return
                assert response.json()["predictions"] == expected

    with ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(client, i) for i in range(16)]
        until(lambda: len(statuses) > 100)
        child.send(signal.SIGTERM)
        for one in clients:
            one.result()
    assert child.wait() == 0
    assert set(statuses) <= {200, 503}
    assert "left unanswered" not in child.told
    assert "Traceback" not in child.told


def test_a_second_signal_ends_at_once(folders: Folders, nursery: Nursery) -> None:
    child, url = started(
        nursery, "--model", f"m={folders('text-classification')}", "--max-batch-tokens", 32, "--max-queue-tokens", 10**7
    )
    body = json.dumps({"inputs": ["the film is good " * 5] * 15_000}).encode()
    with connected(url) as waiting:
        waiting.sendall(predict_request(body))
        until(lambda: metric(url, "bertune_queue_tokens") > 0)
        child.send(signal.SIGTERM)
        child.until("stopping")
        child.send(signal.SIGTERM)
        assert child.wait() == 0
    assert "Traceback" not in child.told
