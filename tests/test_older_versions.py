"""What 0.1.0 wrote still resumes and loads (tests/data/from_0_1_0)."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import bertune
from bertune.google import run_classifier

ARCHIVE = Path(__file__).parent / "data/from_0_1_0/runs.tar.xz"
RUNS = ("train", "tags", "pretrain", "seeds", "restarts")
TASKS = (
    *("text-classification", "mrpc", "regression", "multi-label-classification", "multiple-choice"),
    *("token-classification", "question-answering", "embedding"),
)
SPEEDS = ("train_examples_per_second", "eval_examples_per_second")
SUFFIX = {"mrpc": "tsv", "multiple-choice": "jsonl", "token-classification": "conll", "question-answering": "json"}


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of all of it, which is the working folder too."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def options_of(old: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((old / "runs.json").read_text())[name]["options"]
    return found


def check_weights(found: Path, expected: Path) -> None:
    """Equal up to what processors make of the same sums."""
    ours, theirs = load_file(found), load_file(expected)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert torch.allclose(ours[name], tensor, atol=2e-4, rtol=2e-3), name


@pytest.mark.parametrize("name", RUNS)
def test_runs_that_were_stopped_end_as_if_nothing_had_stopped_them(old: Path, name: str) -> None:
    options = options_of(old, name)
    launch = bertune.train if "task" in options else bertune.pretrain
    run = launch(output=old / "stopped" / name, **options, resume=True)
    assert run.steps == 6
    check_weights(old / "stopped" / name / "model.safetensors", old / "expected" / f"{name}.safetensors")


def test_checkpoints_of_the_drop_in_programs_go_on(old: Path) -> None:
    arguments = json.loads((old / "runs.json").read_text())["google"]["arguments"]
    assert run_classifier.main([*arguments, "--output_dir=stopped/google"]) == 0
    check_weights(old / "stopped/google/bertune/model.safetensors", old / "expected/google.safetensors")


@pytest.mark.parametrize("task", TASKS)
def test_models_load_and_give_the_metrics_that_they_were_saved_with(old: Path, task: str) -> None:
    folder = old / "models" / task
    model = bertune.load(folder, device="cpu", precision="fp32")
    found = model.evaluate(old / f"data/{task}/validation.{SUFFIX.get(task, 'csv')}")
    expected = json.loads((folder / "metrics.json").read_text())
    names_then = {name.replace("/", "_", 1) for name in found}  # 0.1.0 wrote the f1/PER of now as f1_PER
    assert {name for name in expected if name not in ("record", "train_seconds")} <= {*names_then, *SPEEDS}
    assert found["loss"] == pytest.approx(expected["loss"], abs=1e-3)  # others are of few rows, so a tie may turn them


def test_other_options_than_the_run_began_with_are_refused(old: Path) -> None:
    options = options_of(old, "train") | {"learning_rate": 2e-2}
    with pytest.raises(bertune.InputError, match=r"learning_rate is 0.02, but the run to resume has 0.01"):
        bertune.train(output=old / "stopped/train", **options, resume=True)
