"""A tiny model of opinions and its export, made once."""

from pathlib import Path

import pytest

from tests.tiny import LEARNING, done, opinions, train, write_rows

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture
def model(folder: Path, capsys: Capture) -> Path:
    """A model that has learnt its rows, with a validation file; trained once."""
    if not (folder / "model").exists():
        dev = write_rows(folder / "dev.jsonl", opinions(40, seed=1))
        train(capsys, folder, opinions(96), "--validation", dev, *LEARNING)
    return folder / "model"


@pytest.fixture
def exported(model: Path, folder: Path, capsys: Capture) -> Path:
    """The same as ONNX, in both precisions."""
    if not (folder / "onnx-model").exists():
        done(capsys, "export", "--model", model, "--output", folder / "onnx-model", "--precision", "fp32", "int8")
    return folder / "onnx-model"
