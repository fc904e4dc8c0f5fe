"""Several seeds: each a run of its own, mean and deviation of their metrics, the best model on top."""

import json
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import bertune
from bertune.training.loop import loop
from bertune.training.loop.loop import update as real_update
from bertune.training.result import TrainResult
from bertune.training.runs.seeds import run_seeds
from bertune.training.train import train
from tests import tiny
from tests.tiny import opinions, refused, same_weights, write_encoder, write_rows

Run = Callable[..., TrainResult]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """6 updates of a tiny encoder; the keywords are options that differ."""
    write_encoder(tmp_path / "encoder")
    usual: dict[str, Any] = {
        "task": "text-classification",
        "encoder": tmp_path / "encoder",
        "train": write_rows(tmp_path / "train.csv", opinions(48)),
        "validation": write_rows(tmp_path / "dev.csv", opinions(30, seed=1)),
        "max_seq_length": 32,
        "batch_size": 16,
        "learning_rate": 1e-2,
        "epochs": 2,
        "metric": "loss",
        "device": "cpu",
    }

    def start(folder: str, **more: Any) -> TrainResult:
        return train(**(usual | {"output": tmp_path / folder} | more))

    return start


def test_every_seed_is_a_run_and_the_best_is_on_top(run: Run, tmp_path: Path) -> None:
    result = run("all", seeds=[3, 1, 2])
    told = json.loads((tmp_path / "all" / "seeds.json").read_text())
    assert list(told["seeds"]) == ["3", "1", "2"]
    losses = {}
    for seed in (1, 2, 3):
        run(f"alone-{seed}", seed=seed)
        assert same_weights(tmp_path / f"alone-{seed}", tmp_path / "all" / f"seed-{seed}")
        losses[seed] = json.loads((tmp_path / f"alone-{seed}" / "metrics.json").read_text())["loss"]
        assert told["seeds"][str(seed)]["loss"] == losses[seed]
    best = min(losses, key=lambda seed: losses[seed])
    assert told["best"] == best
    assert told["mean"]["loss"] == pytest.approx(statistics.mean(losses.values()))
    assert told["standard_deviation"]["loss"] == pytest.approx(statistics.stdev(losses.values()))
    assert same_weights(tmp_path / "all", tmp_path / "all" / f"seed-{best}")
    assert result.metrics["loss"] == losses[best]
    assert result.steps == 6
    kept = json.loads((tmp_path / "all" / "metrics.json").read_text())
    assert kept["loss"] == losses[best]
    assert kept["record"]["seed"] == best
    assert kept["record"]["seeds"] == [3, 1, 2]
    assert kept["mean"] == told["mean"]
    texts = ["a good film", "a bad one"]
    predictions = bertune.load(tmp_path / "all" / f"seed-{best}", device="cpu").predict(texts)
    assert bertune.load(tmp_path / "all", device="cpu").predict(texts) == predictions


def test_run_yaml_repeats_all_of_them(run: Run, tmp_path: Path, capsys: Capture) -> None:
    run("all", seeds="1,2")
    answer = tiny.done(
        capsys, "train", "--config", tmp_path / "all" / "run.yaml", "--output", tmp_path / "again", "--json"
    )
    told = json.loads(answer.out)
    assert told["steps"] == 6
    assert told["mean"]["loss"] == json.loads((tmp_path / "all" / "seeds.json").read_text())["mean"]["loss"]
    assert same_weights(tmp_path / "all", tmp_path / "again")
    told = yaml.safe_load((tmp_path / "all" / "seed-2" / "run.yaml").read_text())
    assert (told["seed"], told["seeds"]) == (2, None)


def test_a_table_with_mean_and_deviation(
    run: Run, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bertune.progress.console._width", 200)
    run("all", seeds="1,2", baselines=True)
    shown = capsys.readouterr().err
    assert all(part in shown for part in ("seed 1", "seed 2", "(best)", "mean", "deviation", "majority"))
    assert json.loads((tmp_path / "all" / "metrics.json").read_text())["baselines"]["majority"]["accuracy"] == 0.5


@pytest.mark.parametrize("at", [2, 5, 8, 12])
def test_goes_on_with_the_seed_that_was_cut(run: Run, tmp_path: Path, at: int) -> None:
    run("whole", seeds="1,2")
    calls = [0]

    def counted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise KeyboardInterrupt
        return real_update(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "update", counted)
        with pytest.raises(KeyboardInterrupt):
            run("stopped", seeds="1,2")
        calls[0] = 100
        run("stopped", seeds="1,2", resume=True)
    assert calls[0] - 100 <= 12 - 3 * ((at - 1) // 3)  # no update before the last checkpoint is made again
    for name in ("", "seed-1", "seed-2"):
        assert same_weights(tmp_path / "whole" / name, tmp_path / "stopped" / name)
    told = [json.loads((tmp_path / name / "seeds.json").read_text()) for name in ("whole", "stopped")]
    assert [one["seeds"]["1"]["loss"] for one in told] == [told[0]["seeds"]["1"]["loss"]] * 2
    assert told[0]["best"] == told[1]["best"]


def test_data_is_read_and_cut_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertune.tasks.text_classification import TextClassification

    calls = []
    featurize = TextClassification.featurize

    def counted(self: Any, *arguments: Any, **options: Any) -> Any:
        calls.append(options["purpose"])
        return featurize(self, *arguments, **options)

    monkeypatch.setattr(TextClassification, "featurize", counted)
    run("all", seeds="1,2,3")
    assert sorted(calls) == ["evaluate", "train"]


@pytest.mark.parametrize("said", ["1", "1,1", "1,x", "", "1,,2", "-1,2", "1.5,2"])
def test_seeds_that_are_none(tmp_path: Path, capsys: Capture, said: str) -> None:
    write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(8))
    command = ["train", "--task", "text-classification", "--encoder", tmp_path / "encoder", "--train", data]
    command += ["--validation", data, "--output", tmp_path / "out", f"--seeds={said}"]
    refused(capsys, tmp_path, command, f"--seeds {said}", "1,2,3")


@pytest.mark.parametrize("said", ["--seeds=1,2", "--baselines"])
def test_figures_need_validation_data(tmp_path: Path, capsys: Capture, said: str) -> None:
    write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(8))
    command = [
        "train",
        "--task",
        "text-classification",
        "--encoder",
        tmp_path / "encoder",
        "--train",
        data,
        "--validation-share",
        0,
    ]
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "out", said], said.partition("=")[0], "--validation")


def test_resume_under_other_seeds_is_refused(run: Run) -> None:
    run("all", seeds="1,2")
    with pytest.raises(bertune.InputError, match="seeds is '1,3', but the run to resume has '1,2'"):
        run("all", seeds="1,3", resume=True)


@pytest.mark.parametrize("baselines", [False, True])
def test_a_finished_run_of_several_stays_as_it_is(run: Run, tmp_path: Path, baselines: bool) -> None:
    run("all", seeds="1,2", baselines=baselines)
    before = {path: path.read_bytes() for path in (tmp_path / "all").rglob("*.*") if path.is_file()}
    kept = json.loads(before[tmp_path / "all" / "metrics.json"])
    assert kept["record"]["sha256"]
    assert ("baselines" in kept) == baselines
    result = run("all", seeds="1,2", baselines=baselines, resume=True)
    after = {path: path.read_bytes() for path in (tmp_path / "all").rglob("*.*") if path.is_file()}
    assert [path.name for path in before | after if before.get(path) != after.get(path)] == []
    beside = {name: value for name, value in kept.items() if isinstance(value, dict) and name != "record"}
    assert result.more == beside


def test_a_length_that_is_too_long_leaves_no_folder(tmp_path: Path, capsys: Capture) -> None:
    write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(8))
    command = ["train", "--task", "text-classification", "--encoder", tmp_path / "encoder", "--train", data]
    command += ["--validation", data, "--output", tmp_path / "out", "--seeds", "1,2", "--max-seq-length", "4096"]
    refused(capsys, tmp_path, command, "--max-seq-length 4096", "positions")


@pytest.mark.parametrize(("metric", "best"), [("rmse", 2), ("pearson", 1), ("mae", 3)])
def test_the_best_by_any_metric(tmp_path: Path, metric: str, best: int) -> None:
    figures = {
        1: {"rmse": 0.5, "pearson": 0.9, "mae": math.nan},
        2: {"rmse": 0.4, "pearson": 0.8, "mae": 0.4},
        3: {"rmse": 0.6, "pearson": 0.7, "mae": 0.3},
    }

    def made(seed: int, own: Path, resume: bool) -> TrainResult:
        own.mkdir(parents=True)
        (own / "model.safetensors").write_text(f"of seed {seed}")
        return TrainResult(own, figures[seed], 6)

    (tmp_path / ".writing-of-a-killed-process").mkdir()
    found = run_seeds(tmp_path, (1, 2, 3), metric, made, resume=True)
    assert found.best == best
    assert (tmp_path / "model.safetensors").read_text() == f"of seed {best}"
    assert not list(tmp_path.glob(".*"))
