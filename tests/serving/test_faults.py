"""Hostile requests: each ends in an error that says what is wrong, and the service goes on."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from bertune.serving import app, http_protocol
from bertune.serving.options import ServeLimits
from bertune.serving.routes import bodies

Folders = Callable[[str], Path]


def nested(levels: int) -> str:
    """A text in so many lists."""
    return "[" * levels + '"a"' + "]" * levels


@pytest.mark.parametrize(
    ("path", "body", "status", "text"),
    [
        ("/v1/models/first/predict", f'{{"inputs": {nested(40)}}}', 400, "nested more than 32 levels"),
        ("/v1/models/first/predict", f'{{"inputs": {nested(1000)}}}', 400, "nested more than 32 levels"),
        ("/v1/models/first/predict", f'{{"inputs": {nested(9000)}}}', 400, "not JSON"),
        ("/v1/models/first/predict", '{"inputs": [NaN]}', 400, "not JSON"),
        ("/v1/models/first/predict", '{"inputs": ["\\ud800"]}', 400, "not JSON"),
        ("/v1/models/first/predict", '{"inputs": [["a", null]]}', 422, "item 0"),
        ("/v1/models/first/explain", '{"input": ""}', 422, "the text is empty"),
        ("/predict", f'{{"inputs": {nested(900)}}}', 400, "nested"),
        ("/", f'{{"inputs": {nested(900)}}}', 400, "nested"),
        ("/", '{"inputs": "a", "parameters": {"top_k": -1}}', 422, "top_k is '-1'"),
        ("/", '{"inputs": "a", "parameters": {"top_k": true}}', 422, "top_k is 'True'"),
        ("/rerank", '{"query": [], "texts": ["a"]}', 422, "query must be one text, not 0"),
        ("/similarity", '{"inputs": {"source_sentence": [], "sentences": ["b"]}}', 422, "must be one text, not 0"),
        ("/v2/models/first/infer", f'{{"inputs": [{{"data": {nested(900)}}}]}}', 400, "nested"),
    ],
)
def test_each_ends_in_an_error_that_says_what_is_wrong(
    client: TestClient, path: str, body: str, status: int, text: str
) -> None:
    response = client.post(path, content=body)
    assert (response.status_code, text in response.json()["error"]) == (status, True), response.text
    assert client.post("/v1/models/first/predict", json={"inputs": ["film"]}).status_code == 200


def test_a_message_never_repeats_a_long_item(client: TestClient) -> None:
    response = client.post("/v1/models/first/predict", json={"inputs": [{"txt": "a" * 15_000}]})
    assert response.status_code == 422
    assert len(response.text) < 1000


def test_compressed_bodies_are_refused(client: TestClient) -> None:
    body = json.dumps({"inputs": ["film"]})
    refused = client.post("/v1/models/first/predict", content=body, headers={"content-encoding": "gzip"})
    assert (refused.status_code, refused.json()["error_type"]) == (415, "bad_encoding")
    assert client.post("/v1/models/first/predict", content=body, headers={"content-encoding": "identity"}).is_success


def test_thousands_of_items_are_not_deep(client: TestClient) -> None:
    inputs = [["good", "bad"]] * 500
    assert len(client.post("/v1/models/first/predict", json={"inputs": inputs}).json()["predictions"]) == 500


def test_a_body_that_never_comes(folders: Folders) -> None:
    service = app({"m": folders("text-classification")}, limits=ServeLimits(request_seconds=0.05))

    class Silent:
        app = service
        scope: Mapping[str, Any] = MappingProxyType({})

        async def receive(self) -> Any:
            await asyncio.sleep(60)

    with pytest.raises(Exception, match=r"the body did not come within 0\.05 s") as late:
        asyncio.run(bodies.json_body(Silent()))  # type: ignore[arg-type]
    assert getattr(late.value, "status", None) == 408
    service.state.service.models.close(5)


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a server with the guarded protocol and a small app."""
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)

    async def hello(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})

    config = uvicorn.Config(hello, http=http_protocol.GuardedProtocol, port=0, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def said(port: int, sent: bytes) -> bytes:
    """All that the server answers until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (b"\x16\x03\x01\x02\x00", b"400 Bad Request", "bad_http"),
        (b"GET / HTTP/1.1\r\nx: " + b"a" * 70_000, b"431 Request Header Fields Too Large", "too_large"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 12_000, b"431 Request Header Fields Too Large", "too_large"),
        (b"GET / HTTP/1.1\r\nhost:", b"408 Request Timeout", "timeout"),
    ],
)
def test_heads_that_are_no_http_too_long_or_too_slow(port: int, sent: bytes, status: bytes, kind: str) -> None:
    head, _, body = said(port, sent).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 " + status)
    assert json.loads(body)["error_type"] == kind


def test_a_connection_on_which_nothing_comes_is_closed(port: int) -> None:
    assert said(port, b"") == b""


def test_good_requests_follow_each_other_on_one_connection(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    found = said(port, request * 2 + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert found.count(b"200 OK") == 3
