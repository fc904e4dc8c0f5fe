"""`bertune train`: from options to a trained model in its run folder."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertune.files.yaml_files import write_yaml
from bertune.option_values import checked_values
from bertune.options import keyword_problems
from bertune.progress import console
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task, task_kind
from bertune.training.config import check_run, resumes
from bertune.training.fine_tune import FineTuning, TrainResult, baselines_of, fine_tune
from bertune.training.options import TrainOptions
from bertune.training.prepare import Labelled, PreparedData, prepare
from bertune.training.run_folder.errors import disk_errors, run_errors
from bertune.training.run_folder.report import write_all
from bertune.training.runs.seeds import run_seeds


def train(**options: Any) -> TrainResult:
    """Fine-tune an encoder; the keywords are the options of `bertune train`, the task's own among them.

    Raises:
        InputError: bad options or data; nothing has been written then.
    """
    kind = task_kind(str(options.get("task")))
    own = {field.name for field in dataclasses.fields(kind.Options)}
    known = {field.name for field in dataclasses.fields(TrainOptions)}
    keyword_problems("train", options, known | own, ("task", "encoder", "train", "output"))
    if isinstance(seeds := options.get("seeds"), list | tuple):
        options["seeds"] = ",".join(map(str, seeds))
    texts = {"train", "validation", "output", "encoder"}
    general: dict[str, Any] = {
        name: str(value) if name in texts and value is not None else value
        for name, value in options.items()
        if name in known
    }
    return run(
        TrainOptions(**checked_values(TrainOptions, general)),
        {name: value for name, value in options.items() if name in own},
    )


def run(options: TrainOptions, task_options: Mapping[str, Any]) -> TrainResult:
    """One training run, from options to the closing table.

    Raises:
        InputError: bad options or data; nothing has been written then.
        FaultError: disk or memory gave out; the last checkpoint, if there is one, is kept.
        Interrupted: by SIGINT or SIGTERM; a checkpoint is kept.
    """
    with run_errors(Path(options.output), "train"):
        task = new_task(options.task, task_options)
        options = dataclasses.replace(with_defaults(options, task), resume=resumes(options))
        tree = dataclasses.asdict(dataclasses.replace(options, resume=False)) | dataclasses.asdict(task.options)
        read = _read(options, task, tree)
        data = functools.cache(lambda: prepare(task, read, options))
        return fine_tune(FineTuning(data(), options)) if options.seeds is None else _train_seeds(options, tree, data)


def _train_seeds(options: TrainOptions, tree: Mapping[str, Any], data: Callable[[], PreparedData]) -> TrainResult:
    """The run once with each seed, in folders of their own; mean and spread, and the best model on top.

    data: prepared once, and only where a seed is still to be trained.
    """
    folder, seeds = Path(options.output), options.seed_list

    def begin() -> None:
        with disk_errors(folder, 0):
            folder.mkdir(parents=True, exist_ok=True)
            write_yaml(folder / "run.yaml", tree)

    def train_seed(seed: int, own: Path, resume: bool) -> TrainResult:
        changes: dict[str, Any] = {"seed": seed, "seeds": None, "baselines": False, "output": str(own)}
        changes["resume"] = resume
        further = len(seeds) - 1 - seeds.index(seed)
        return fine_tune(FineTuning(data(), dataclasses.replace(options, **changes), further=further, begin=begin))

    found = run_seeds(folder, seeds, str(options.metric), train_seed, resume=options.resume)
    metrics = found.metrics[found.best]
    record = {**found.record, "seed": found.best, "seeds": list(seeds)}
    spread = {"mean": found.mean, "standard_deviation": found.deviation}
    more = write_all(folder, metrics, record, spread, lambda: baselines_of(data()) if options.baselines else {})
    title = f"{folder}: the model of seed {found.best}, best by {options.metric}"
    console.print(found.table(title, more.get("baselines", {})))
    return TrainResult(folder, metrics, found.steps, more)


def with_defaults(options: TrainOptions, task: Task[Any]) -> TrainOptions:
    """The options with the task's defaults where they are None."""
    own = dataclasses.asdict(task.defaults) | {"metric": task.metric}
    return dataclasses.replace(
        options, **{name: value for name, value in own.items() if getattr(options, name) is None}
    )


def _read(options: TrainOptions, task: Task[Any], tree: Mapping[str, Any]) -> dict[str, Labelled]:
    """Check options, output folder and data files together. Returns: what each file holds.

    Raises:
        InputError: all problems at once.
    """
    problems = []
    if options.metric != task.metric and options.validation is None:
        problems = [f"--metric {options.metric}: picks the best model on validation data; name some with --validation"]
    paths = {"train": options.train, "validation": options.validation}
    read = {
        role: functools.partial(Labelled.read, task, Path(path)) for role, path in paths.items() if path is not None
    }
    return check_run(options, tree, read, problems)
