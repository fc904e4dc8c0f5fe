"""Trials, each in a process of its own, over data that are prepared once.

Where processes can be forked (Linux), a trial begins with the prepared data of its parent at no cost; the parent
computes nothing with several threads, for GNU's OpenMP cannot be used in a child after that. Elsewhere a child prepares
the data again.
"""

import ctypes
import dataclasses
import json
import logging
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from bertune.distributed.world import apart, current
from bertune.errors import FaultError, InputError, Interrupted
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.progress import load_curves
from bertune.sweep.options import SweepOptions
from bertune.tasks.registry import new_task
from bertune.training.fine_tune import FineTuning, fine_tune, measured
from bertune.training.loop.signals import raise_if_requested
from bertune.training.loop.state import Evaluation
from bertune.training.options import TrainOptions
from bertune.training.prepare import Labelled, PreparedData, prepare
from bertune.training.run_folder.report import finished
from bertune.training.train import with_defaults

RESULT, RUNGS = "result.json", "rungs.jsonl"
_POLL = 0.1
_PR_SET_PDEATHSIG = 1

Ended = Literal["done", "failed", "behind", "time"]


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to.

    ended: done; failed, with `error`; stopped because it fell behind or its time was over.
    rungs: the metric after each evaluation.
    seconds: of the whole process.  worked: of these, from the first update on: training, evaluating, writing.
    """

    ended: Ended
    seconds: float
    rungs: list[float]
    metrics: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    error: str = ""
    worked: float = 0.0


class Trials:
    """Runs trials of one sweep."""

    def __init__(self, options: SweepOptions, task_options: Mapping[str, Any]) -> None:
        self.options = options
        self.task_options = dict(task_options)
        self.threads = torch.get_num_threads()
        self._read: dict[str, Labelled] = {}
        self._prepared: dict[str, PreparedData] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is not forked: it reads and prepares anew."""
        return self.__dict__ | {"_read": {}, "_prepared": {}}

    def data(self, encoder: str) -> PreparedData:
        """The data, prepared for an encoder.

        Raises:
            InputError: data or encoder cannot be read, or do not fit one another.
        """
        if encoder not in self._prepared:
            task = new_task(self.options.task, self.task_options)
            if not self._read:
                paths = {"train": self.options.train, "validation": self.options.validation}
                self._read = {role: Labelled.read(task, path, f"--{role}") for role, path in paths.items()}
            self._prepared[encoder] = prepare(task, self._read, self.train_options({"encoder": encoder}, Path()))
            _warm(self._prepared[encoder])
        return self._prepared[encoder]

    def train_options(self, setting: Mapping[str, Any], output: Path) -> TrainOptions:
        """The options of `bertune train` for a setting."""
        shared = {field.name for field in dataclasses.fields(TrainOptions)} - {"resume", "time_limit"}
        given = {name: value for name, value in dataclasses.asdict(self.options).items() if name in shared}
        given |= {"encoder": self.options.encoders[0], "output": str(output), "keep_checkpoints": 1}
        task = new_task(self.options.task, self.task_options)
        return with_defaults(TrainOptions(**{**given, **setting}), task)

    def run(
        self,
        setting: Mapping[str, Any],
        folder: Path,
        deadline: float,
        stop: Callable[[list[float]], bool] = lambda rungs: False,  # noqa: ARG005
        *,
        probe: bool = False,
    ) -> TrialResult:
        """Train with a setting in a process of its own.

        Args:
            setting: options of `bertune train` that differ from the sweep's.
            folder: for the run; emptied before.
            deadline: of `time.monotonic`, when it is stopped.
            stop: from the metric after each evaluation so far, whether it is stopped.
            probe: measure how fast it would be, and train nothing.
        """
        began = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = self.train_options(setting, folder)
        beside = folder.with_name(folder.name + ".process")
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        process = _CONTEXT.Process(target=self._child, args=(options, beside, probe))
        torch.set_num_threads(1)
        process.start()
        ended: Ended = "failed"
        try:
            while process.is_alive():
                process.join(_POLL)
                raise_if_requested()
                current().raise_if_stopped()
                if time.monotonic() > deadline:
                    ended = "time"
                elif stop(_rungs(beside)):
                    ended = "behind"
                else:
                    continue
                _end(process)
        finally:
            _end(process)
            torch.set_num_threads(self.threads if _CONTEXT.get_start_method() != "fork" else 1)
        seconds, rungs = time.monotonic() - began, _rungs(beside)
        told = read_json(beside / RESULT) if (beside / RESULT).is_file() else {}
        (folder.parent / f"{folder.name}.log").unlink(missing_ok=True)
        shutil.move(beside / "log", folder.parent / f"{folder.name}.log")
        shutil.rmtree(beside)
        if "metrics" in told:
            return TrialResult("done", seconds, rungs, told["metrics"], told["steps"], worked=told["worked"])
        error = told.get("error") or f"ended with status {process.exitcode}; see {folder.name}.log"
        return TrialResult(ended, seconds, rungs, error=str(error))

    def _child(self, options: TrainOptions, beside: Path, probe: bool) -> None:
        """What the process does."""
        log = os.open(beside / "log", os.O_WRONLY | os.O_CREAT, 0o644)
        for stream in (1, 2):
            os.dup2(log, stream)
        _end_with_parent()
        torch.set_num_threads(self.threads)
        logging.getLogger("bertune").setLevel(logging.INFO)  # ranks other than 0 say nothing, but this is a file

        def note(found: Evaluation) -> None:
            with (beside / RUNGS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(found.metrics.get(str(options.metric))) + "\n")

        told: dict[str, Any]
        try:
            with apart():
                run = FineTuning(self.data(options.encoder), options, evaluated=note)
                if probe:
                    told = {"metrics": _speeds(run), "steps": 0, "worked": 0.0}
                else:
                    result = fine_tune(run)
                    told = {"metrics": result.metrics, "steps": result.steps, "worked": worked(result.output)}
        except (InputError, FaultError) as error:
            told = {"error": str(error)}
        except Interrupted as error:
            sys.exit(error.status)
        write_text(beside / RESULT, json.dumps(told))


def _speeds(run: FineTuning) -> dict[str, float]:
    """How fast a run would be, as the metrics of one say it, and the seconds of the batches that showed it."""
    budget, config = measured(run)
    assert run.data.validation is not None
    return {
        "train_examples_per_second": config.batch_size / max(budget.update, 1e-9),
        "eval_examples_per_second": run.data.validation.units / max(budget.evaluation, 1e-9),
        "train_seconds": 3 * budget.update,  # forward and backward twice, and forward alone
    }


def _warm(data: PreparedData) -> None:
    """Do what every run would do once in its process, so that forked ones find it done: about a second each."""
    if _CONTEXT.get_start_method() != "fork":
        return
    load_curves()
    with tempfile.TemporaryDirectory() as folder:
        data.tokenizer.save(Path(folder), max_length=data.max_seq_length)


def worked(folder: Path) -> float:
    """Seconds of a finished run from its first update on; 0 where there is none."""
    found = finished(folder)
    return 0.0 if found is None else float(found[1].get("wall_seconds", 0.0))


_CONTEXT: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


def _rungs(beside: Path) -> list[float]:
    """The metric after each evaluation so far."""
    path = beside / RUNGS
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    values = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [float("nan") if value is None else float(value) for value in values]


def _end(process: Any) -> None:
    """End a process: it may write a checkpoint first, which takes a moment, but not longer than that."""
    if process.is_alive():
        process.terminate()
        process.join(5)
    if process.is_alive():
        process.kill()
        process.join()


def _end_with_parent() -> None:
    """Have the system end this process when its parent is killed (Linux, prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
