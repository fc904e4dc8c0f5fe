"""Trackers keep a run and never touch it: raising, hanging and slow ones, and MLflow itself on a local folder."""

import importlib.util
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bertune.errors import InputError
from bertune.training import tracking
from bertune.training.trackers import RunStart
from bertune.training.train import train
from tests import tiny


class Fake:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.run: RunStart | None = None
        self.points: list[tuple[Mapping[str, float], int]] = []
        self.finished: tuple[Mapping[str, float], Sequence[Path], bool] | None = None

    def start(self, run: RunStart) -> str | None:
        self.run = run
        return "run-1"

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.points.append((dict(values), step))

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool) -> None:
        self.finished = metrics, files, failed


class Raising(Fake):
    def log(self, values: Mapping[str, float], step: int) -> None:
        raise ConnectionError("the server\nis gone")


class Hanging(Fake):
    released = threading.Event()

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.released.wait(60)


class Slow(Fake):
    def log(self, values: Mapping[str, float], step: int) -> None:
        time.sleep(0.01)
        super().log(values, step)


def tracking_with(tracker: Fake, folder: Path) -> tracking.Tracking:
    options = {"learning_rate": 1e-3, "note": "x" * 999, "none": None}
    made = tracking.Tracking(["mlflow"], folder, options, lambda _: tracker)
    made.start()
    return made


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_parameters_curves_metrics_and_files_arrive(tmp_path: Path) -> None:
    tracker = Fake()
    made = tracking_with(tracker, tmp_path)
    made.log({"train/loss": 0.5}, 10)
    made.log({"train/loss": 0.25}, 20)
    (tmp_path / "report.html").write_text("")
    made.finish({"accuracy": 0.9}, [tmp_path / "report.html", tmp_path / "errors.csv"])
    assert tracker.run is not None
    assert tracker.run.parameters() == {"learning_rate": "0.001", "note": "x" * 250}
    assert tracker.points == [({"train/loss": 0.5}, 10), ({"train/loss": 0.25}, 20)]
    assert tracker.finished == ({"accuracy": 0.9}, [tmp_path / "report.html"], False)
    again = Fake()
    tracking_with(again, tmp_path).abort()
    assert again.run is not None
    assert again.run.known == "run-1"
    assert again.finished == ({}, [], True)


def test_one_that_raises_is_off_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracker = Raising()
    made = tracking_with(tracker, tmp_path)
    for step in range(100):
        made.log({"train/loss": 1.0}, step)
    made.finish({"accuracy": 1.0})
    assert [message for message in warnings_of(caplog) if "mlflow" in message] == [
        "--track mlflow: off from here on (ConnectionError: the server); the run goes on"
    ]
    assert tracker.finished is None


def test_one_that_hangs_costs_nothing_and_is_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.2)
    made = tracking_with(Hanging(), tmp_path)
    begin = time.perf_counter()
    for step in range(5000):
        made.log({"train/loss": 1.0}, step)
    assert time.perf_counter() - begin < 1
    made.finish({"accuracy": 1.0})
    Hanging.released.set()
    (message,) = warnings_of(caplog)
    assert "has not finished after 0 s" in message


def test_a_slow_one_loses_points_but_holds_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "WAITING", 5)
    tracker = Slow()
    made = tracking_with(tracker, tmp_path)
    begin = time.perf_counter()
    for step in range(200):
        made.log({"train/loss": 1.0}, step)
    assert time.perf_counter() - begin < 0.5
    made.finish({"accuracy": 1.0})
    assert tracker.finished is not None
    assert 0 < len(tracker.points) < 200
    (message,) = warnings_of(caplog)
    assert f"{200 - len(tracker.points)} points were left out" in message


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    return {
        "task": "text-classification", "encoder": tiny.write_encoder(tmp_path / "encoder"),
        "train": tiny.write_rows(tmp_path / "train.csv", tiny.opinions(24)),
        "validation": tiny.write_rows(tmp_path / "dev.csv", tiny.opinions(60, seed=1)), "output": tmp_path / "out",
        "max_seq_length": 32, "batch_size": 8, "max_steps": 20, "learning_rate": 1e-2, "device": "cpu",
    }  # fmt: skip


def test_a_run_ends_as_without_whatever_trackers_do(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.2)
    monkeypatch.setattr("bertune.training.options.tracker_problems", lambda _: [])
    plain = train(**options)
    fakes = iter([Raising(), Hanging(), Fake()])
    made: list[Fake] = []

    def make(_: str) -> Fake:
        made.append(next(fakes))
        return made[-1]

    monkeypatch.setattr(tracking, "new_tracker", make)
    result = train(**options | {"output": tmp_path / "tracked", "track": ["mlflow", "wandb", "trackio"]})
    assert tiny.same_weights(plain.output, result.output)
    kept = made[-1]
    assert {name for values, _ in kept.points for name in values} >= {"train/loss", "validation/accuracy"}
    assert kept.finished is not None
    assert [file.name for file in kept.finished[1]][:2] == ["report.html", "report.json"]


def fakes(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """Trackers that `train` makes from here on."""
    made: list[Fake] = []

    def make(_: str) -> Fake:
        made.append(Fake())
        return made[-1]

    monkeypatch.setattr("bertune.training.options.tracker_problems", lambda _: [])
    monkeypatch.setattr(tracking, "new_tracker", make)
    return made


def test_folds_are_one_run_with_curves_of_every_fold(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = fakes(monkeypatch)
    del options["validation"]
    result = train(**options | {"track": ["mlflow"], "folds": 2})
    (kept,) = made
    names = {name for values, _ in kept.points for name in values}
    assert {"fold-1/train/loss", "fold-2/train/loss", "train/loss"} <= names
    assert kept.finished is not None
    assert kept.finished[0] == result.metrics
    assert {file.name for file in kept.finished[1]} >= {"report.html", "folds.json"}


def test_seeds_are_a_run_each_and_one_of_all_with_the_report(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fakes(monkeypatch)
    train(**options | {"track": ["mlflow"], "seeds": "1,2"})
    assert [one.run.name for one in made if one.run is not None] == ["seed-1", "seed-2", "out"]
    whole = made[-1].finished
    assert whole is not None
    assert "mean/accuracy" in whole[0]
    assert "report.html" in {file.name for file in whole[1]}


class Printing(Fake):
    def log(self, values: Mapping[str, float], step: int) -> None:
        print("a tracker's banner")
        super().log(values, step)


def test_what_trackers_print_is_no_part_of_the_json(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bertune.training.options.tracker_problems", lambda _: [])
    monkeypatch.setattr(tracking, "new_tracker", lambda _: Printing())
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    found = tiny.done(capsys, "train", *flags, "--json", "--track", "mlflow")
    assert json.loads(found.out)["steps"] == 20
    assert "a tracker's banner" in found.err


def test_unknown_and_missing_trackers_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="no such tracker; known: tensorboard, mlflow, wandb, trackio"):
        train(**options | {"track": ["neptune"]})
    if importlib.util.find_spec("wandb") is None:
        with pytest.raises(InputError, match="pip install wandb"):
            train(**options | {"track": ["wandb"]})


def test_mlflow_on_a_local_folder(options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed: --track mlflow is tested with fakes alone")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    result = train(**options | {"track": ["tensorboard", "mlflow"]})
    client = MlflowClient()
    experiment = client.get_experiment_by_name("bertune")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["learning_rate"] == "0.01"
    assert run.data.metrics["final/accuracy"] == pytest.approx(result.metrics["accuracy"])
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == [10, 20]
    assert "report.html" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert json.loads((result.output / "trackers.json").read_text()) == {"mlflow": run.info.run_id}
