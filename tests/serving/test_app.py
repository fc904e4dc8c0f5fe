"""The service through its own protocol: answers as `predict` gives them, errors, limits, operation."""

import asyncio
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

import bertune
from bertune.errors import InputError
from bertune.network import Network
from bertune.serving import app
from bertune.serving.engine import Engine
from bertune.serving.options import ServeLimits
from tests import runs
from tests.serving.conftest import ITEMS, plain, predicted

Folders = Callable[[str], Path]


@pytest.mark.parametrize("task", ITEMS)
def test_answers_are_those_of_predict_whatever_shares_the_batch(folders: Folders, task: str) -> None:
    items = ITEMS[task]
    expected = predicted(folders(task), items)
    with TestClient(app({"m": folders(task)}, limits=ServeLimits(max_batch_tokens=70))) as client:

        def ask(chosen: list[int]) -> list[dict[str, Any]]:
            response = client.post("/v1/models/m/predict", json={"inputs": [items[i] for i in chosen]})
            assert response.status_code == 200, response.text
            return list(response.json()["predictions"])

        every = list(range(len(items)))
        requests = [[i] for i in every] + [every, every[::-1]] * 3
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, requests))
    for chosen, found in zip(requests, answers, strict=True):
        assert plain(found) == json.loads(json.dumps([expected[i] for i in chosen]))


def test_says_how_much_was_read_and_what_was_cut(client: TestClient) -> None:
    inputs = ["film is good", "film " * 100, ["a", "b"]]
    found = client.post("/v1/models/first/predict", json={"inputs": inputs}).json()["predictions"]
    assert [(one["tokens"], one["truncated"]) for one in found] == [(5, False), (32, True), (5, False)]
    strict = client.post("/v1/models/first/predict", json={"inputs": inputs, "truncate": False})
    assert strict.status_code == 422
    assert "item 1: longer than 32 tokens" in strict.json()["error"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_list_of_strings_is_a_batch(client: TestClient, count: int) -> None:
    response = client.post("/v1/models/first/predict", json={"inputs": ["film"] * count})
    assert len(response.json()["predictions"]) == count
    assert len(client.post("/predict", json={"inputs": ["film"] * count}).json()) == count


def test_the_answer_names_model_and_version(client: TestClient, folders: Folders) -> None:
    record = json.loads((folders("text-classification") / "bertune.json").read_text())
    answer = client.post("/v1/models/first/predict", json={"inputs": []}).json()
    assert answer == {"model": "first", "version": record["weights_sha256"][:12], "predictions": []}
    described = client.get("/v1/models/first").json()
    assert described["labels"] == ["bad", "good"]
    assert described["task"] == "text-classification"
    assert described["limits"]["max_seq_length"] == 32
    assert "loss" in described["metrics"]
    assert [one["name"] for one in client.get("/v1/models").json()["models"]] == ["first", "vectors"]


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "text"),
    [
        ("/v1/models/first/predict", b"{", 400, "bad_json", "not JSON"),
        ("/v1/models/first/predict", b"\xff\xfe", 400, "bad_json", "not JSON"),
        ("/v1/models/first/predict", b"[1]", 400, "bad_json", "must be a JSON object, not a list"),
        ("/v1/models/first/predict", b"{}", 422, "bad_request", "'inputs' is missing"),
        ("/v1/models/first/predict", b'{"inputs": ["a", 5, null]}', 422, "bad_item", "item 1: predict: 5"),
        ("/v1/models/first/predict", b'{"inputs": [{"txt": "a"}]}', 422, "bad_item", "item 0"),
        ("/v1/models/first/predict", b'{"inputs": ["a"], "truncate": 3}', 422, "bad_request", "true or false"),
        ("/v1/models/none/predict", b'{"inputs": ["a"]}', 404, "not_found", "known: first, vectors"),
        ("/v1/models/first/predict", b'{"inputs": ["' + b"a" * 30_000 + b'"]}', 413, "too_large", "20000 bytes"),
        ("/nothing", b"{}", 404, "not_found", "/docs"),
        ("/health", b"{}", 405, "bad_method", "/docs"),
        ("/v1/models/first/reload", b"", 401, "unauthorized", "--api-key-file"),
    ],
)
def test_errors_say_what_to_do(client: TestClient, path: str, body: bytes, status: int, kind: str, text: str) -> None:
    response = client.post(path, content=body)
    assert (response.status_code, response.json()["error_type"]) == (status, kind)
    assert text in response.json()["error"]
    assert response.headers["x-request-id"]


def test_too_many_bytes_without_a_length_are_refused_too(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(100):
            yield b"a" * 1000

    assert client.post("/v1/models/first/predict", content=chunks()).status_code == 413


@pytest.mark.parametrize("text", ["\ud800", "\x00\x01", "\u202ertl", "[CLS] [SEP] [MASK]", "<script>", "a" * 5000])
def test_hostile_texts_are_texts(client: TestClient, text: str) -> None:
    body = json.dumps({"inputs": [text]})
    response = client.post("/v1/models/first/predict", content=body)
    assert response.status_code in (200, 400)
    assert "Traceback" not in response.text
    assert client.post("/v1/models/first/predict", json={"inputs": ["film"]}).status_code == 200


def test_every_route_needs_the_key(folders: Folders) -> None:
    service = app({"m": folders("text-classification")}, api_keys=["first", "second"])
    with TestClient(service) as client:
        for route in service.routes:
            path = getattr(route, "path", "").replace("{name}", "m").replace("{version}", "1")
            for method in getattr(route, "methods", None) or {"GET"}:
                opened = path in ("/", "/health", "/ready", "/v2/health/live", "/v2/health/ready") and method != "POST"
                for headers in (
                    {},
                    {"authorization": "Bearer wrong"},
                    {"x-api-key": ""},
                    {"authorization": "first"[:-1]},
                ):
                    status = client.request(method, path, headers=headers, content=b"{}").status_code
                    assert (status == 401) != opened, (method, path, headers, status)
        for headers in (
            {"authorization": "Bearer second"},
            {"authorization": "bearer  second "},
            {"authorization": "second"},
            {"x-api-key": "first"},
        ):
            assert client.post("/v1/models/m/predict", json={"inputs": ["a"]}, headers=headers).status_code == 200


def test_request_ids_are_kept_if_they_are_plain(client: TestClient) -> None:
    assert client.get("/health", headers={"x-request-id": "abc-1"}).headers["x-request-id"] == "abc-1"
    for strange in ("a b", "x" * 65, "a\tb"):
        assert client.get("/health", headers={"x-request-id": strange}).headers["x-request-id"] != strange


def test_metrics_count_by_route_and_never_by_path(client: TestClient) -> None:
    client.post("/v1/models/first/predict", json={"inputs": ["film", "good film"]})
    client.get("/some/path/or/other")
    text = client.get("/metrics").text
    assert 'bertune_requests_total{route="/v1/models/{name}/predict",status="200"} 1.0' in text
    assert 'bertune_items_total{model="first"} 2.0' in text
    assert 'bertune_batch_items_count{model="first"}' in text
    assert 'bertune_errors_total{kind="not_found"} 1.0' in text
    assert "bertune_model_info{" in text
    assert "some/path" not in text


def test_ready_asks_the_model(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/ready").json() == {"status": "ready"}
    monkeypatch.setattr("bertune.serving.service.CANARY_EVERY", -1.0)

    def broken(self: Network, batch: Any) -> Any:
        raise RuntimeError("no device")

    monkeypatch.setattr(Network, "forward", broken)
    response = client.get("/ready")
    assert response.status_code == 503
    assert "no device" in response.json()["error"]
    assert client.get("/health").status_code == 200
    assert client.post("/v1/models/first/predict", json={"inputs": ["a"]}).status_code == 500
    monkeypatch.undo()
    monkeypatch.setattr("bertune.serving.service.CANARY_EVERY", -1.0)
    assert client.get("/ready").status_code == 200


def test_a_request_that_meets_a_reload_names_the_version_that_answered(
    client: TestClient, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = client.app.state.service.models  # type: ignore[attr-defined]
    old, find = models.get("first"), models.get
    new = models.add("first", folders("regression"))
    assert old.batcher.close(20)
    given = iter([old])  # as if it had been found just before the switch
    monkeypatch.setattr(models, "get", lambda name=None: next(given, None) or find(name))
    answer = client.post("/v1/models/first/predict", json={"inputs": [["film", "a film"]]}).json()
    assert (answer["version"], set(answer["predictions"][0])) == (new.version, {"score", "truncated", "tokens"})


def test_many_explanations_hold_up_neither_answers_nor_readiness(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertune.serving.service.CANARY_EVERY", -1.0)
    begun, held = threading.Event(), threading.Event()

    def waits(*args: Any, **kwargs: Any) -> None:
        begun.set()
        assert held.wait(60)
        raise InputError("cannot be explained")

    monkeypatch.setattr("bertune.model.explain.explain", waits)
    explain = "/v1/models/first/explain"
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(lambda: client.post(explain, json={"input": "film"}).status_code) for _ in range(20)]
        assert begun.wait(60)
        assert client.get("/ready").status_code == 200
        assert client.post("/v1/models/first/predict", json={"inputs": ["film"]}).status_code == 200
        while sum(one.done() for one in asked) < 11:  # one is at work, eight wait
            held.wait(0.01)
        held.set()
        statuses = [one.result() for one in asked]
    assert sorted(statuses) == [422] * 9 + [429] * 11


def test_a_stuck_model_is_asked_once_however_often_readiness_is(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertune.serving.service.CANARY_EVERY", -1.0)
    asked, held = list[str](), threading.Event()

    def stuck(self: Any) -> str:
        asked.append(self.name)
        assert held.wait(60)
        return "stuck"

    monkeypatch.setattr("bertune.serving.served.ServedModel.canary", stuck)
    with ThreadPoolExecutor(12) as pool:
        probes = [pool.submit(lambda: client.get("/ready").status_code) for _ in range(12)]
        service = client.app.state.service  # type: ignore[attr-defined]
        while service.in_flight < 12:
            held.wait(0.01)
        held.set()
        assert [probe.result() for probe in probes] == [503] * 12
    assert asked == ["first"]


def test_numbers_that_are_not_finite_are_an_error_of_their_item(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Engine.compute

    def poisoned(self: Engine, groups: Any) -> Any:
        found = compute(self, groups)
        for group, rows in zip(groups, found, strict=True):
            for i, length in enumerate(group.input_ids.lengths):
                rows[i] = rows[i] * np.nan if length == 4 else rows[i]
        return found

    monkeypatch.setattr(Engine, "compute", poisoned)
    found = client.post("/v1/models/first/predict", json={"inputs": ["film", "film film", "film"]}).json()[
        "predictions"
    ]
    assert ["error" in one for one in found] == [False, True, False]
    assert found[1]["error_type"] == "not_finite"
    assert client.post("/v1/models/first/predict", json={"inputs": ["film film"]}).status_code == 500


def test_time_is_limited(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    with TestClient(app({"m": folders("text-classification")}, limits=ServeLimits(request_seconds=0.05))) as client:
        held = threading.Event()
        compute = Engine.compute

        def slow(self: Engine, groups: Any) -> Any:
            held.wait(5)
            return compute(self, groups)

        monkeypatch.setattr(Engine, "compute", slow)
        response = client.post("/v1/models/m/predict", json={"inputs": ["film"]})
        held.set()
        assert (response.status_code, response.json()["error_type"]) == (504, "timeout")


def test_a_client_that_went_away_is_not_answered(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    service = app({"m": folders("text-classification")})
    held, seen = threading.Event(), []
    compute = Engine.compute

    def slow(self: Engine, groups: Any) -> Any:
        seen.append(sum(len(group) for group in groups))
        held.wait(5)
        return compute(self, groups)

    monkeypatch.setattr(Engine, "compute", slow)
    body = json.dumps({"inputs": ["film"]}).encode()
    scope = {
        "type": "http", "method": "POST", "path": "/v1/models/m/predict", "raw_path": b"", "query_string": b"",
        "headers": [], "http_version": "1.1", "scheme": "http", "server": ("test", 80), "client": ("test", 1),
    }  # fmt: skip
    sent: list[Any] = []

    async def talk() -> None:
        messages = [{"type": "http.request", "body": body}]

        async def receive() -> Any:
            if messages:
                return messages.pop()
            await asyncio.sleep(0.05)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        await service(scope, receive, send)

    asyncio.run(talk())
    held.set()
    text = service.state.service.metrics.render(service.state.service.models).decode()
    assert 'bertune_dropped_total{model="m"} 1.0' in text
    assert [message.get("status") for message in sent][:1] == [499]
    service.state.service.models.close(5)


def test_reload_switches_when_the_new_model_answers(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders("text-classification"), folder)
    with TestClient(app({"m": folder}, api_keys=["k"]), headers={"x-api-key": "k"}) as client:
        old = client.get("/v1/models/m").json()["version"]
        (folder / "model.safetensors").rename(folder / "kept")
        refused = client.post("/v1/models/m/reload")
        assert (refused.status_code, refused.json()["error_type"]) == (409, "not_reloaded")
        assert client.post("/v1/models/m/predict", json={"inputs": ["film"]}).json()["version"] == old

        options = runs.prepare(tmp_path / "again", "text-classification")
        runs.start(tmp_path / "again" / "run", options | {"seed": 7})
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "again" / "run", folder)
        answered = threading.Event()
        statuses: list[int] = []

        def ask() -> None:
            while not answered.is_set():
                statuses.append(client.post("/v1/models/m/predict", json={"inputs": ["film", "good"]}).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        new = client.post("/v1/models/m/reload").json()["version"]
        answered.set()
        asking.join()
        assert new != old
        assert set(statuses) == {200}
        after = client.post("/v1/models/m/predict", json={"inputs": ["film"]}).json()
        assert after["version"] == new
        assert plain(after["predictions"]) == predicted(folder, ["film"])


def test_draining_refuses_new_work_and_says_so(client: TestClient) -> None:
    service = client.app.state.service  # type: ignore[attr-defined]
    service.draining = True
    response = client.post("/v1/models/first/predict", json={"inputs": ["film"]})
    assert response.status_code == 503
    assert response.headers["connection"] == "close"
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200


def test_mounts_in_an_app_of_ones_own(folders: Folders) -> None:
    service = app({"m": bertune.load(folders("text-classification"))}, api_keys=["key"])
    with TestClient(Starlette(routes=[Mount("/ml", service)])) as client:
        path, body = "/ml/v1/models/m/predict", {"inputs": ["film"]}
        answer = client.post(path, json=body, headers={"x-api-key": "key"}).json()
        assert plain(answer["predictions"]) == predicted(folders("text-classification"), ["film"])
        assert client.post(path, json=body).status_code == 401
        assert [client.get(f"/ml{open_}").status_code for open_ in ("/", "/health", "/ready")] == [200] * 3
        nowhere = client.get("/ml/nothing", headers={"x-api-key": "key"})
        assert (nowhere.status_code, nowhere.json()["error_type"]) == (404, "not_found")
    service.state.service.models.close(5)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no bertune model"):
        app({"m": tmp_path})


def test_the_page_and_the_list_of_addresses(client: TestClient) -> None:
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "{{" not in page.text
    assert len(page.content) < 100_000
    assert "http://" not in page.text.replace("http://127.0.0.1", "")
    assert "https://" not in page.text
    routes = {route.path for route in client.app.routes}  # type: ignore[attr-defined]
    described = client.get("/openapi.json").json()["paths"]
    assert set(described) <= routes
    hidden = {"/docs", "/openapi.json", "/embeddings", "/models/{name}", "/v2", "/v2/models/{name}/ready"}
    assert routes - set(described) == {*hidden, "/v2/models/{name}/versions/{version}/infer"}
    assert "/v1/models/{name}/predict" in client.get("/docs").text


@pytest.mark.parametrize(
    ("name", "value"), [("max_batch_tokens", 0), ("request_seconds", -1), ("max_queue_tokens", True)]
)
def test_limits_that_cannot_be(folders: Folders, name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"app: {name} {value}: must be above 0"):
        app({"a": folders("text-classification")}, limits=ServeLimits(**{name: value}))  # type: ignore[arg-type]
