"""Trackers keep a run and never touch it: raising, hanging and slow ones, and MLflow itself on a local folder."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
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
    """Answers nothing until the test is over."""

    def __init__(self, at: str = "log") -> None:
        super().__init__()
        self._at, self.released = at, threading.Event()

    def _hang(self, at: str) -> None:
        if at == self._at:
            assert self.released.wait(300)

    def start(self, run: RunStart) -> str | None:
        self._hang("start")
        return super().start(run)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._hang("log")
        super().log(values, step)

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool) -> None:
        self._hang("finish")
        super().finish(metrics, files, failed=failed)


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
        "--track mlflow: off from here on (ConnectionError: the server); the run continues"
    ]
    assert tracker.finished is None


@pytest.mark.parametrize("at", ["start", "log", "finish"])
def test_one_that_hangs_costs_nothing_and_is_left(
    at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call returns though the tracker does not: a call that waited for it would wait for ever."""
    monkeypatch.setattr(tracking, "FINISH_SECONDS", 0.2)
    tracker = Hanging(at)
    made = tracking_with(tracker, tmp_path)
    for step in range(5000):
        made.log({"train/loss": 1.0}, step)
    made.finish({"accuracy": 1.0})
    assert tracking.left_to_themselves()
    tracker.released.set()
    (message,) = warnings_of(caplog)
    assert message == "--track mlflow: has not finished in time; left to itself"


def test_those_that_hang_take_the_time_of_one_and_not_that_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time passes here only where one waits for a thread, and a thread that is done takes none."""
    waited: list[float] = []
    real = threading.Thread.join

    def join(self: threading.Thread, timeout: float | None = None) -> None:
        if self.name.startswith("tracker wandb"):
            real(self, 300)
        else:
            waited.append(timeout or 0.0)

    hanging = [Hanging(), Hanging("finish")]
    good = Fake()
    fakes = {"mlflow": hanging[0], "trackio": hanging[1], "wandb": good}
    made = tracking.Tracking(list(fakes), tmp_path, {}, fakes.__getitem__)
    made.start()
    made.log({"train/loss": 1.0}, 1)
    monkeypatch.setattr(threading.Thread, "join", join)
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: 100.0))
    made.finish({"accuracy": 1.0})
    assert waited == [tracking.FINISH_SECONDS] * 2  # of the same 30 seconds: the clock stands still
    assert good.finished == ({"accuracy": 1.0}, [], False)
    assert good.points == [({"train/loss": 1.0}, 1)]
    assert len(warnings_of(caplog)) == 2
    for one in hanging:
        one.released.set()


def test_points_that_wait_for_a_slow_one_are_bounded(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "WAITING", 5)
    tracker = Hanging("start")
    made = tracking_with(tracker, tmp_path)
    for step in range(200):
        made.log({"train/loss": 1.0}, step)
    tracker.released.set()
    made.finish({"accuracy": 1.0})
    assert tracker.finished == ({"accuracy": 1.0}, [], False)
    assert 4 <= len(tracker.points) <= 5  # the start may have left the queue already
    (message,) = warnings_of(caplog)
    assert f"{200 - len(tracker.points)} points were left out" in message


def test_a_slow_one_gets_the_metrics_though_points_still_wait(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "CURVES_SHARE", -1.0)  # at the end there is no time for points any more
    tracker = Hanging("start")
    made = tracking_with(tracker, tmp_path)
    for step in range(50):
        made.log({"train/loss": 1.0}, step)
    (thread,) = made._threads
    thread.end({"accuracy": 1.0}, [], failed=False, seconds=30.0)
    tracker.released.set()
    assert thread.wait(300)
    assert tracker.finished == ({"accuracy": 1.0}, [], False)
    assert tracker.points == []
    assert ["50 points were left out" in message for message in warnings_of(caplog)] == [True]


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), MemoryError(), WordlessError(), ValueError("")])
@pytest.mark.parametrize("at", ["made", "start", "log", "finish"])
def test_whatever_is_raised_and_wherever_is_one_warning(
    error: BaseException, at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Fake):
        pass

    def fail(*_: Any, **__: Any) -> None:
        raise error

    if at != "made":
        setattr(Bad, at, fail)

    def make(_: str) -> Fake:
        if at == "made":
            raise error
        return Bad()

    made = tracking.Tracking(["mlflow"], tmp_path, {}, make)
    made.start()
    made.log({"train/loss": 1.0}, 1)
    made.finish({"accuracy": 1.0})
    (message,) = warnings_of(caplog)
    assert type(error).__name__ in message
    assert message.endswith("the run continues")


def test_a_system_without_a_further_thread(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    made = tracking_with(Fake(), tmp_path)
    made.log({"train/loss": 1.0}, 1)
    made.finish({"accuracy": 1.0})
    (message,) = warnings_of(caplog)
    assert "can't start new thread" in message


PACKAGES = {
    "an import that raises": ("raise ImportError('libcuda.so is missing')\n", "ImportError: libcuda.so is missing"),
    "an import that ends the process": ("import sys\nsys.exit('no licence')\n", "SystemExit: no licence"),
    "a package of another kind": ("", "AttributeError: module 'wandb' has no attribute 'init'"),
    "a syntax error": ("def init(:\n", "SyntaxError"),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_that_cannot_be_imported(
    name: str, options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    content, told = PACKAGES[name]
    (tmp_path / "packages" / "wandb").mkdir(parents=True)
    (tmp_path / "packages" / "wandb" / "__init__.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    try:
        result = train(**options | {"track": ["wandb"], "max_steps": 2})
    finally:
        sys.modules.pop("wandb", None)
    assert result.steps == 2
    (message,) = [text for text in warnings_of(caplog) if "--track" in text]
    assert told in message


HANGS = """
import atexit, threading
atexit.register(threading.Event().wait)
threading.Thread(target=threading.Event().wait).start()
threading.Event().wait()
"""


def test_one_that_hangs_does_not_keep_the_process_from_ending(options: dict[str, Any], tmp_path: Path) -> None:
    """Its import hangs, and what it registered for the end of the process would hang too."""
    (tmp_path / "packages" / "wandb").mkdir(parents=True)
    (tmp_path / "packages" / "wandb" / "__init__.py").write_text(HANGS)
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    program = (
        "import sys, bertune.training.tracking as t; t.FINISH_SECONDS = 0.2; from bertune.cli.main import main; "
        "sys.exit(main())"
    )
    path = os.pathsep.join([str(tmp_path / "packages"), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", program, "train", *flags, "--track", "wandb", "--json"], check=False, timeout=300,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == 20
    assert done.stderr.count("--track wandb") == 1


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
    hanging = Hanging()
    fakes = {"mlflow": Raising(), "wandb": hanging, "trackio": Fake()}
    monkeypatch.setattr(tracking, "new_tracker", fakes.__getitem__)
    result = train(**options | {"output": tmp_path / "tracked", "track": ["mlflow", "wandb", "trackio"]})
    hanging.released.set()
    assert tiny.same_weights(plain.output, result.output)
    kept = fakes["trackio"]
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
