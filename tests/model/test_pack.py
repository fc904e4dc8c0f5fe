"""A packed model is the model: it answers the same from a zip file or a folder, and carries nothing of the run."""

import json
import zipfile
from pathlib import Path

import pytest

from bertune.model.use import load
from tests.tiny import done, opinions, refused, train, write_rows

Capture = pytest.CaptureFixture[str]
TEXTS = ["the film is good", "the film is awful"]


@pytest.fixture
def model(tmp_path: Path, capsys: Capture) -> Path:
    dev = write_rows(tmp_path / "dev.csv", opinions(16, seed=1))
    return train(capsys, tmp_path, opinions(32), "--validation", dev, "--seeds", "1-2")


def test_zip(model: Path, tmp_path: Path, capsys: Capture) -> None:
    answer = done(capsys, "pack", model)
    packed = tmp_path / "model.zip"
    assert f"{packed}: " in answer.out
    assert "python -m zipfile -e model.zip models" in answer.out
    assert "bertune predict --model models/model " in answer.out
    refused(capsys, tmp_path, ["evaluate", "--model", packed, "--data", tmp_path / "dev.csv"],
            f"python -m zipfile -e {packed} unpacked")  # fmt: skip
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "colleague")
    assert {"model/model.safetensors", "model/bertune.json", "model/README.md", "model/run.yaml"} <= set(names)
    assert not [name for name in names if "seed" in name or "checkpoints" in name or "logs" in name]
    assert load(tmp_path / "colleague" / "model").predict(TEXTS) == load(model).predict(TEXTS)


def test_folder_and_json(model: Path, tmp_path: Path, capsys: Capture) -> None:
    found = json.loads(done(capsys, "pack", model, "--output", tmp_path / "small", "--json").out)
    files = [path for path in (tmp_path / "small").rglob("*") if path.is_file()]
    assert found["files"] == len(files)
    assert found["size"] == sum(path.stat().st_size for path in files) < found["before"] / 3
    assert load(tmp_path / "small").predict(TEXTS) == load(model).predict(TEXTS)
    assert not list(tmp_path.glob(".small*"))


def test_refusals(model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "there").mkdir()
    refused(capsys, tmp_path, ["pack", model, "--output", tmp_path / "there"], "there: already exists")
    refused(capsys, tmp_path, ["pack", tmp_path / "nosuch"], "nosuch: there is no such folder")
    refused(capsys, tmp_path, ["pack", tmp_path / "there"], "there: holds no bertune model")
    refused(capsys, tmp_path, ["pack", model, model], "name one folder")
    refused(capsys, tmp_path, ["pack", model, "--output", tmp_path / "no" / "a.zip"], "there is no folder")
