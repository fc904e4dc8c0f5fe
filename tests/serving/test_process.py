"""`bertune serve` as a process: start, environment, signals, reload, what happens at its end."""

import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import runs, tiny
from tests.nursery import Child, Nursery

Folders = Callable[[str], Path]


def started(nursery: Nursery, *arguments: object) -> tuple[Child, str]:
    """A service on a free port, once it listens; its address."""
    child = nursery.start("serve", *arguments, "--port", 0, "--device", "cpu")
    child.until("serving on http://")
    found = re.search(r"serving on (http://\S+)", child.told)
    assert found
    return child, found[1]


def test_serves_stops_and_logs(folders: Folders, nursery: Nursery) -> None:
    child, url = started(nursery, "--model", f"one={folders('text-classification')}", folders("regression"))
    names = [one["name"] for one in httpx.get(f"{url}/v1/models").json()["models"]]
    assert names == ["one", "run"]
    assert httpx.get(f"{url}/ready").status_code == 200
    answer = httpx.post(f"{url}/v1/models/one/predict", json={"inputs": ["film"]}).json()
    assert answer["predictions"][0]["label"] in {"bad", "good"}
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert re.search(r"POST /v1/models/one/predict 200 [\d.]+ ms \w+", child.told)
    assert "Traceback" not in child.told


def test_sigterm_answers_what_is_under_way(folders: Folders, nursery: Nursery) -> None:
    child, url = started(nursery, "--model", f"m={folders('text-classification')}", "--no-access-log")
    httpx.post(f"{url}/v1/models/m/predict", json={"inputs": ["warm"]})
    found: list[Any] = []
    many = {"inputs": ["the film is good " * 5] * 4000}
    asking = threading.Thread(
        target=lambda: found.append(httpx.post(f"{url}/v1/models/m/predict", json=many, timeout=60))
    )
    asking.start()
    deadline = time.monotonic() + 30
    while " 1.0" not in _metric(url, 'bertune_batch_items_count{model="m"}') and time.monotonic() < deadline:
        time.sleep(0.005)
        if float(_metric(url, 'bertune_queue_tokens{model="m"}').rsplit(" ", 1)[-1] or 0) > 0:
            break
    child.send(signal.SIGTERM)
    time.sleep(0.1)
    late = None
    with contextlib.suppress(httpx.TransportError):  # it may have answered everything and closed by now
        late = httpx.post(f"{url}/v1/models/m/predict", json={"inputs": ["late"]}, timeout=5).status_code
    asking.join(60)
    assert late in (503, None)
    assert found[0].status_code == 200
    assert len(found[0].json()["predictions"]) == 4000
    assert child.wait() == 0


def _metric(url: str, name: str) -> str:
    return next((line for line in httpx.get(f"{url}/metrics").text.splitlines() if line.startswith(name)), " 0")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="the system has no SIGHUP")
def test_sighup_loads_the_folder_again(folders: Folders, nursery: Nursery, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(folders("text-classification"), folder)
    child, url = started(nursery, "--model", f"m={folder}")
    old = httpx.get(f"{url}/v1/models/m").json()["version"]
    runs.start(tmp_path / "run", runs.prepare(tmp_path / "again", "text-classification") | {"seed": 9})
    shutil.rmtree(folder)
    shutil.copytree(tmp_path / "run", folder)
    child.send(signal.SIGHUP)
    child.until(f"replaces {old}")
    assert httpx.get(f"{url}/v1/models/m").json()["version"] != old

    (folder / "config.json").write_text("{")
    child.send(signal.SIGHUP)
    child.until("the old version stays in use")
    assert httpx.post(f"{url}/v1/models/m/predict", json={"inputs": ["film"]}).status_code == 200
    child.send(signal.SIGTERM)
    assert child.wait() == 0


def test_an_address_in_use_is_one_line(folders: Folders, nursery: Nursery) -> None:
    child, url = started(nursery, "--model", f"m={folders('text-classification')}")
    second = nursery.start("serve", "--model", folders("text-classification"), "--port", url.rpartition(":")[2])
    assert second.wait() == 1
    assert "is the port in use? --port 0 finds a free one" in second.told
    assert "Traceback" not in second.told
    child.send(signal.SIGINT)
    assert child.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--model", "/nowhere"], "--model /nowhere: there is no such folder"),
        (["--model", "a b={}"], "may hold letters, digits"),
        (["--model", "m={}", "m={}"], "another model is named 'm' already"),
        (["--model", "{}", "--port", "70000"], "--port 70000"),
        (["--model", "{}", "--max-batch-tokens", "0"], "--max-batch-tokens 0: must be above 0"),
        (["--model", "{}", "--api-key-file", "/nowhere"], "--api-key-file /nowhere: cannot be read"),
        ([], "needs --model"),
    ],
)
def test_bad_options_are_told(
    folders: Folders, capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    model = str(folders("text-classification"))
    answer = tiny.bertune(capsys, "serve", *(argument.replace("{}", model) for argument in arguments))
    assert answer.status == 2
    assert told in answer.err


def test_options_from_the_environment() -> None:
    from bertune.serving.options import environment_arguments

    found = environment_arguments({
        "BERTUNE_SERVE_MODEL": "a=x b", "BERTUNE_SERVE_PORT": "1", "BERTUNE_SERVE_ACCESS_LOG": "false", "PORT": "2",
    })  # fmt: skip
    assert found == ["--model", "a=x", "b", "--port", "1", "--access-log=false"]


def test_variables_of_no_option_are_told_and_those_of_kubernetes_passed_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    from bertune.serving.options import environment_arguments

    caplog.set_level("INFO")
    found = environment_arguments({
        "BERTUNE_SERVE_PROT": "1", "BERTUNE_SERVE_HOST": "::1", "BERTUNE_SERVE_PORT": "tcp://10.0.0.1:8000",
        "BERTUNE_SERVE_SERVICE_HOST": "10.0.0.1", "BERTUNE_SERVE_SERVICE_PORT_HTTP": "8000",
        "BERTUNE_SERVE_PORT_8000_TCP": "tcp://10.0.0.1:8000", "BERTUNE_SERVE_PORT_8000_TCP_ADDR": "10.0.0.1",
    })  # fmt: skip
    assert found == ["--host", "::1"]
    assert [record.getMessage() for record in caplog.records] == [
        "BERTUNE_SERVE_HOST in the environment: --host ::1",
        "BERTUNE_SERVE_PROT in the environment is no option of serve; `bertune serve --help` lists them",
    ]


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tiny.bertune(capsys, "serve", "--help")
    assert "bertune serve --model out/demo" in " ".join(capsys.readouterr().out.split())


def test_keys_from_a_file(tmp_path: Path) -> None:
    from bertune.cli.serve import read_keys

    (tmp_path / "keys").write_text("# of the shop\n  one  \n\ntwo\n")
    assert read_keys(tmp_path / "keys") == ("one", "two")


@pytest.mark.torture
def test_ten_thousand_requests_at_four_times_the_capacity(folders: Folders, nursery: Nursery) -> None:
    """None lost, none wrong, every refusal a 429; memory does not grow."""
    from concurrent.futures import ThreadPoolExecutor

    texts = [f"the film is {'good' if i % 2 else 'bad'} {'a' * (i % 7)}" for i in range(50)]
    child, url = started(
        nursery, "--model", f"m={folders('text-classification')}", "--max-queue-tokens", 300, "--no-access-log"
    )
    with httpx.Client(base_url=url, limits=httpx.Limits(max_connections=64), timeout=60) as client:
        expected = {t: client.post("/v1/models/m/predict", json={"inputs": [t]}).json() for t in texts}

        def ask(i: int) -> int:
            text = texts[i % len(texts)]
            response = client.post("/v1/models/m/predict", json={"inputs": [text] * (1 + i % 3)})
            if response.status_code == 200:
                assert response.json()["predictions"] == expected[text]["predictions"] * (1 + i % 3)
            return response.status_code

        with ThreadPoolExecutor(64) as pool:
            first = list(pool.map(ask, range(2000)))
            memory = _resident(child.pid)
            statuses = first + list(pool.map(ask, range(10_000)))
    assert set(statuses) <= {200, 429}
    assert statuses.count(429) > 0
    assert _resident(child.pid) < memory * 1.1
    child.send(signal.SIGTERM)
    assert child.wait() == 0


def _resident(pid: int) -> int:
    """Bytes of memory of a process."""
    if not Path(f"/proc/{pid}/statm").exists():
        pytest.skip("memory is read from /proc")
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_user_task_is_served(nursery: Nursery, tmp_path: Path) -> None:
    source = tmp_path / "shout.py"
    source.write_text(
        "import dataclasses\n"
        "from bertune.tasks.text_classification import TextClassification\n\n\n"
        "class Shout(TextClassification):\n"
        "    def decode(self, logits, features, examples):\n"
        "        found = super().decode(logits, features, examples)\n"
        "        return [{**one, 'label': one['label'].upper()} for one in found]\n"
    )
    options = runs.prepare(tmp_path / "data", "text-classification") | {"task": f"{source}:Shout"}
    runs.start(tmp_path / "run", options)
    refused = nursery.start("serve", "--model", tmp_path / "run", "--port", 0)
    assert refused.wait() == 2
    assert "--trust-task-file" in refused.told
    child, url = started(nursery, "--model", f"m={tmp_path / 'run'}", "--trust-task-file", source)
    answer = httpx.post(f"{url}/v1/models/m/predict", json={"inputs": ["film"]}).json()["predictions"][0]
    assert answer["label"] in {"GOOD", "BAD"}
    child.send(signal.SIGTERM)
    assert child.wait() == 0
    assert json.dumps(answer)
