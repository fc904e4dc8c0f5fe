"""What a finished run records of itself: metrics.json, run.yaml, baselines, the closing table."""

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import bertune
from bertune.model.provenance import device_name
from bertune.training import train as train_module
from bertune.training.prepare import prepare
from tests import runs, tiny
from tests.tiny import opinions, write_rows

Capture = pytest.CaptureFixture[str]


def test_what_was_used_and_how_long_it_took(tmp_path: Path, capsys: Capture) -> None:
    dev = write_rows(tmp_path / "dev.csv", opinions(12, seed=1))
    output = tiny.train(capsys, tmp_path, opinions(24), "--validation", dev, "--precision", "fp32", "--seed", 7)
    record = json.loads((output / "metrics.json").read_text())["record"]
    assert record["bertune"] == bertune.__version__
    assert record["torch"] == torch.__version__.partition("+")[0] or record["torch"] == torch.__version__
    assert (record["numpy"], record["python"]) == (np.__version__, platform.python_version())
    assert record["device"] == device_name(torch.device("cpu"))
    assert record["device"].startswith("cpu: ")
    assert (record["threads"], record["precision"], record["seed"]) == (torch.get_num_threads(), "float32", 7)
    assert (record["steps"], record["best_step"] in (3, 6), record["skipped_updates"]) == (6, True, 0)
    assert 0 < json.loads((output / "metrics.json").read_text())["train_seconds"] <= record["wall_seconds"] < 60
    for flag, path in (("--train", tmp_path / "train.jsonl"), ("--validation", dev)):
        assert record["sha256"][f"{flag} {path}"] == hashlib.sha256(path.read_bytes()).hexdigest()
    (encoder,) = [value for name, value in record["sha256"].items() if name.startswith("--encoder ")]
    assert len(encoder) == 64
    assert yaml.safe_load((output / "run.yaml").read_text())["record"] == record


def test_another_encoder_has_another_hash(tmp_path: Path, capsys: Capture) -> None:
    hashes: list[str] = []
    for seed in (0, 0, 1):
        folder = tmp_path / str(len(hashes))
        folder.mkdir()
        tiny.write_encoder(folder / "encoder", seed=seed)
        output = tiny.train(capsys, folder, opinions(8), "--max-steps", 1)
        told = json.loads((output / "metrics.json").read_text())["record"]["sha256"]
        hashes.append(next(value for name, value in told.items() if name.startswith("--encoder ")))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(("task", "names"), [("text-classification", ["majority", "tfidf_logistic_regression"])])
def test_baselines_stand_beside_the_model(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, task: str, names: list[str]
) -> None:
    monkeypatch.setattr("bertune.progress.console._width", 200)
    dev = write_rows(tmp_path / "dev.csv", opinions(20, seed=1))
    output = tiny.train(capsys, tmp_path, opinions(48), "--validation", dev, "--baselines", task=task)
    found: dict[str, Any] = json.loads((output / "metrics.json").read_text())["baselines"]
    assert list(found) == names
    assert found["majority"]["accuracy"] == 0.5
    assert found["tfidf_logistic_regression"]["accuracy"] == 1  # one word tells the label


def test_the_table_has_a_column_for_each(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertune.progress.console._width", 200)
    tiny.write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    command = ["train", "--task", "text-classification", "--encoder", tmp_path / "encoder", "--train", data]
    shown = tiny.done(
        capsys, *command, "--validation", data, "--output", tmp_path / "out", *tiny.FAST, "--baselines"
    ).err
    assert all(part in shown for part in ("model", "majority", "tfidf_logistic_regression", "accuracy"))


def test_a_task_without_simple_methods_says_so(tmp_path: Path, capsys: Capture) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", [{"sentence1": f"a {i}", "sentence2": "b"} for i in range(8)])
    command = ["train", "--task", "embedding", "--encoder", tmp_path / "encoder", "--train", data]
    command += ["--validation", data, "--output", tmp_path / "out", *tiny.FAST, "--baselines", "--max-steps", 1]
    assert "no simple method" in tiny.done(capsys, *command).err
    assert "baselines" not in json.loads((tmp_path / "out" / "metrics.json").read_text())


@pytest.mark.parametrize("task", ["text-classification", "pretraining"])
def test_a_finished_run_that_is_resumed_stays_as_it_is(tmp_path: Path, task: str) -> None:
    options = runs.prepare(tmp_path, task)
    runs.start(tmp_path / "out", options)
    files = [tmp_path / "out" / name for name in ("metrics.json", "run.yaml", "model.safetensors")]
    before = [path.read_bytes() for path in files]
    runs.start(tmp_path / "out", options | {"resume": True})
    assert [path.read_bytes() for path in files] == before


def test_figures_are_kept_before_the_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = runs.prepare(tmp_path, "text-classification") | {"baselines": True}

    def broken(*_: Any) -> Any:
        raise RuntimeError("a defect")

    with monkeypatch.context() as patch:
        patch.setattr("bertune.training.fine_tune.baselines", broken)
        with pytest.raises(RuntimeError, match="a defect"):
            runs.start(tmp_path / "out", options)
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert kept["record"]["steps"] == runs.UPDATES
    assert "baselines" not in kept
    runs.start(tmp_path / "out", options | {"resume": True})
    whole = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert whole.pop("baselines")["majority"]
    assert whole == kept


def test_data_are_hashed_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is replaced while the run is being prepared is not what the run is made from."""
    options = runs.prepare(tmp_path, "text-classification")
    paths = (options["train"], options["validation"])
    expected = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    plain = prepare

    def replaced(*arguments: Any) -> Any:
        for path in expected:
            write_rows(path, opinions(30, seed=9))
        return plain(*arguments)

    monkeypatch.setattr(train_module, "prepare", replaced)
    runs.start(tmp_path / "out", options)
    record = json.loads((tmp_path / "out" / "metrics.json").read_text())["record"]["sha256"]
    assert {record[f"--{role} {options[role]}"] for role in ("train", "validation")} == set(expected.values())
    data = json.loads((tmp_path / "out" / "bertune.json").read_text())["data"]
    assert [data[role]["sha256"] for role in ("train", "validation")] == list(expected.values())
