"""Texts, labels and paths of users pass every table and console unchanged."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import FAST, bertune, done, opinions, train, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]
LABELS = ("[/INST]", "[red]good")


@pytest.fixture(scope="module")
def odd_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with brackets in its name, holding data and a model whose labels look like markup."""
    folder = tmp_path_factory.mktemp("brackets") / "[b] runs[/]"
    folder.mkdir(parents=True)
    rows = [row | {"text": f"{row['text']} [/LOC]"} for row in opinions(16, labels=LABELS)]
    data, encoder = write_rows(folder / "[bold]data.csv", rows), write_encoder(folder / "encoder")
    options = ["--task", "text-classification", "--encoder", encoder, "--train", data, "--validation", data]
    command = ["train", *options, "--output", folder / "[x]model", *FAST, "--epochs", "1", "--baselines"]
    process = subprocess.run(
        [sys.executable, "-m", "bertune", *map(str, command)], capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert "[x]model" in process.stderr.replace("\n", "")
    return folder


def test_tables_of_every_command(odd_model: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    data, model = odd_model / "[bold]data.csv", odd_model / "[x]model"
    shown = done(capsys, "predict", "--model", model, "--input", data).out
    assert "[/LOC]" in shown
    assert "[/INST]" in shown or "[red]good" in shown
    assert "[bold]data.csv" in done(capsys, "evaluate", "--model", model, "--data", data).out.replace("\n", "")
    checked = done(capsys, "check", "--task", "text-classification", "--train", data).out
    assert all(label in checked for label in LABELS)
    other = shutil.copytree(model, odd_model / "[/y]")
    assert "[x]model" in done(capsys, "compare", model, other, "--data", data, "--resamples", "100").out
    assert "[x]model" in done(capsys, "inspect", model).out.replace("\n", "")


def test_entities_and_multiple_labels(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    rows = [{"tokens": ["[/LOC]", "film"], "tags": ["B-[/LOC]", "O"]}] * 8
    model = train(capsys, tmp_path, rows, task="token-classification")
    done(capsys, "predict", "--model", model, "--input", tmp_path / "train.jsonl")
    assert "f1/[/LOC]" in done(capsys, "evaluate", "--model", model, "--data", tmp_path / "train.jsonl").out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_console_that_is_not_utf8(tmp_path: Path, encoding: str) -> None:
    data = write_rows(
        tmp_path / "データ.csv", [{"text": f"映画 {i} ü", "label": ("良い", "悪い")[i % 2]} for i in range(8)]
    )
    environment = os.environ | {"PYTHONIOENCODING": encoding, "COLUMNS": "200"}
    for more in ([], ["--json"]):
        command = [sys.executable, "-m", "bertune", "check", "--task", "text-classification", "--train", data, *more]
        ended = subprocess.run(list(map(str, command)), capture_output=True, check=False, env=environment)
        assert ended.returncode == 0, ended.stderr.decode(encoding)
    assert json.loads(ended.stdout)["files"]["train"]["labels"] == {"良い": 4, "悪い": 4}


def test_answers_go_through_pipes(odd_model: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    data, model = odd_model / "[bold]data.csv", odd_model / "[x]model"
    command = [sys.executable, "-m", "bertune", "predict", "--model", str(model), "--input", "-", "--output"]
    with data.open("rb") as stream:
        piped = subprocess.run([*command, "-"], stdin=stream, capture_output=True, check=False)
    assert piped.returncode == 0, piped.stderr
    assert len(piped.stdout.splitlines()) == 16
    shell = " ".join(f"'{part}'" for part in command)
    text = f"{shell} /dev/stdout < '{data}' | true; echo ${{PIPESTATUS[0]}}; {shell} - < '{data}' > /dev/full"
    broken = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    assert broken.returncode == 1
    assert broken.stdout.strip() == "1"
    assert "Traceback" not in broken.stderr
    assert "Exception ignored" not in broken.stderr
    assert broken.stderr.endswith("error: standard output: cannot be written: No space left on device\n")


def test_no_input(odd_model: Path, tmp_path: Path, capsys: Capture) -> None:
    told = bertune(capsys, "predict", "--model", odd_model / "[x]model", "--input", tmp_path / "none.csv")
    assert (told.status, "no such file" in told.err) == (2, True)
