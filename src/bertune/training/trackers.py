"""Services that keep runs (MLflow, Weights & Biases, trackio), each behind the same three calls.

They are imported when a run begins, in a thread of their own (`training.tracking`).
"""

import dataclasses
import importlib.util
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bertune.errors import InputError

PROJECT = "bertune"
"""Experiment or project that runs belong to, where the service's environment variables name none."""
LONGEST = 250
"""Characters of a parameter's value."""


@dataclass(frozen=True)
class RunStart:
    """A run that begins.

    name: for people.
    folder: of the run.
    options: parameters.
    known: what the tracker called the run when an earlier process began it; None for a new one.
    """

    name: str
    folder: Path
    options: Mapping[str, Any]
    known: str | None = None

    def parameters(self) -> dict[str, str]:
        """Options that say something, as short texts."""
        return {name: str(value)[:LONGEST] for name, value in self.options.items() if value is not None}


class Tracker(Protocol):
    """A service that keeps runs. Whatever it raises, and however long it takes, the training goes on."""

    def start(self, run: RunStart) -> str | None:
        """Begin the run, or go on with a known one. Returns: what the tracker calls it."""
        ...

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve."""
        ...

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool) -> None:
        """End the run with its metrics and files, or as one that failed."""
        ...


class MlflowTracker:
    """MLflow, where MLFLOW_TRACKING_URI says, or its own default; the experiment by MLFLOW_EXPERIMENT_NAME."""

    def start(self, run: RunStart) -> str | None:
        """Begin a run of the experiment, or go on with a known one."""
        import os

        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        if run.known is not None:
            self._run = run.known
            self._client.update_run(self._run, status="RUNNING")
            return self._run
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if found is None else found.experiment_id
        self._run = str(self._client.create_run(experiment, run_name=run.name).info.run_id)
        from mlflow.entities import Param

        parameters = [Param(key, value) for key, value in run.parameters().items()]
        for begin in range(0, len(parameters), 100):  # the most that a call takes
            self._client.log_batch(self._run, params=parameters[begin : begin + 100])
        return self._run

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [Metric(_legal(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=points)

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool) -> None:
        """Metrics, files as artefacts, and the status."""
        for name, value in metrics.items():
            self._client.log_metric(self._run, _legal(f"final/{name}"), value)
        for file in files:
            self._client.log_artifact(self._run, str(file))
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")


def _legal(name: str) -> str:
    """A metric's name as MLflow takes it, which refuses brackets and the like; names may hold labels."""
    return re.sub(r"[^/\w.\- :]", "_", name)


class WandbTracker:
    """Weights & Biases; project, entity and mode by its own environment variables."""

    def start(self, run: RunStart) -> str | None:
        """Begin a run, or go on with a known one."""
        import os

        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run.name, dir=str(run.folder),
            config=run.parameters(), id=run.known, resume="allow" if run.known else None,
            settings=wandb.Settings(console="off"),
        )  # fmt: skip
        self._run.define_metric("update")
        self._run.define_metric("*", step_metric="update")
        return str(self._run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve.

        W&B refuses a `step` below an earlier one, as folds and resumed runs have them: updates are an axis of ours.
        """
        self._run.log({**values, "update": step})

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool) -> None:
        """Metrics in the summary, files as an artefact."""
        self._run.summary.update(dict(metrics))
        if files:
            artifact = self._wandb.Artifact(f"report-{self._run.id}", type="report")
            for file in files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=int(failed))


class TrackioTracker:
    """trackio, which keeps runs on this machine; the project by TRACKIO_PROJECT."""

    def start(self, run: RunStart) -> str | None:
        """Begin a run, or go on with a known one."""
        import os

        import trackio

        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        resume = "allow" if run.known else "never"
        self._run = trackio.init(
            project=project, name=run.known or run.name, config=run.parameters(), resume=resume, embed=False
        )
        return str(self._run.name)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """A point on every named curve."""
        self._run.log(dict(values), step=step)

    def finish(self, metrics: Mapping[str, float], files: Sequence[Path], *, failed: bool) -> None:
        """Metrics as a last point, files as artefacts where this version keeps them."""
        ended = {f"final/{name}": value for name, value in metrics.items()}
        self._run.log({**ended, "failed": int(failed)})
        if hasattr(self._run, "log_artifact"):
            for file in files:
                self._run.log_artifact(str(file), type="report")
        self._run.finish()


TENSORBOARD = "tensorboard"
"""Its records are written in any case: resuming and the report read them."""
TRACKERS: Mapping[str, Callable[[], Tracker]] = {
    "mlflow": MlflowTracker,
    "wandb": WandbTracker,
    "trackio": TrackioTracker,
}
NAMES = (TENSORBOARD, *TRACKERS)


def tracker_problems(names: Sequence[str]) -> list[str]:
    """Why these trackers cannot be used: unknown names, packages that are not installed."""
    found = []
    for name in names:
        if name not in NAMES:
            found.append(f"--track {name}: no such tracker; known: {', '.join(NAMES)}")
        elif name != TENSORBOARD and importlib.util.find_spec(name) is None:
            found.append(f"--track {name}: the package {name} is not installed; pip install {name}")
    return found


def new_tracker(name: str) -> Tracker:
    """A tracker by its name. Raises InputError for an unknown one."""
    if name not in TRACKERS:
        raise InputError(f"--track {name}: no such tracker; known: {', '.join(NAMES)}")
    return TRACKERS[name]()


def named(run: RunStart, known: str | None) -> RunStart:
    """The same run, under what a tracker called it."""
    return dataclasses.replace(run, known=known)
