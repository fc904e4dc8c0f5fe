"""`--soup N`: several runs from the same start, and the mean of their weights as the model.

The runs share the new weights of head and re-initialised layers, and differ in the order of the data and in dropout.
Models that began alike end near one another, and the mean of their weights mostly answers as well as the mean of their
outputs would, at the cost of one (Wortsman et al., 2022, "Model soups: averaging weights of multiple fine-tuned models
improves accuracy without increasing inference time").

Nothing is picked among the runs: each is kept as its last update left it, and the mean of all is the model. Validation
rows only guard against runs that do not go together: where the mean is worse on them than its runs are on average, the
best run is the model instead. So the figure of the mean is not one of the best of many.

Every run is a folder of its own in OUTPUT/runs. `soup.json` says how many there are to be, how long they took, and what
those that are finished came to, so that a resumed run goes on with the one that was cut.
"""

import dataclasses
import json
import logging
import math
import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertune.checkpoints.huggingface import read_huggingface
from bertune.checkpoints.names import to_ours
from bertune.distributed.world import current
from bertune.durations import Clock, duration
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError, counted
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.model.folder import network_names
from bertune.network import Network
from bertune.progress import console
from bertune.tasks.protocol import lower_is_better
from bertune.training.closing_report import seconds_of_report
from bertune.training.fine_tune import (
    FineTuning,
    baselines_of,
    fine_tune,
    judged,
    measured,
    network_from,
    write_model,
)
from bertune.training.loop.budget import TARGET
from bertune.training.loop.randomness import seed_all
from bertune.training.loop.state import Evaluation
from bertune.training.loop.validation import is_better
from bertune.training.options import TrainOptions
from bertune.training.prepare import PreparedData
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.folder import FolderEvents
from bertune.training.run_folder.report import closing_table, finished, metrics_of_evaluation, write_all

logger = logging.getLogger(__name__)

FILE, RUNS = "soup.json", "runs"
MOST = 8
"""Runs that `auto` makes at most."""
SHORTEST = 2 / 3
"""Share of the updates that are asked for, which a run of `auto` has at least where there are several."""
_KEPT_EVERY = 60.0
"""Seconds between two checkpoints of a run at least: it is evaluated at its end alone."""
_KEEPING = 0.02
"""Share of the time that goes into them at most."""
_LEAST = 0.4
"""Share of what a run took that must be left for another one."""


@dataclass
class _Progress:
    """What soup.json holds.

    count: runs that are to be made.
    seconds: that all have taken so far, over all sessions.
    runs_made: metrics, updates and collapse of those that are finished, in order.
    """

    count: int
    seconds: float
    runs_made: list[dict[str, Any]]

    def write(self, folder: Path, more: Mapping[str, Any] | None = None) -> None:
        if current().is_first:
            with disk_errors(folder / FILE, 0):
                write_text(folder / FILE, json.dumps({**vars(self), **(more or {})}, indent=2) + "\n")


@dataclass(frozen=True)
class Plan:
    """How the time is spent.

    count: runs to make.
    between: updates from one checkpoint of a run to the next; None: an epoch.
    kept: seconds for the mean of the weights, its evaluation and its writing, and the report.
    """

    count: int
    between: int | None = None
    kept: float = 0.0


@dataclass(frozen=True)
class _Soup:
    """The runs at work."""

    options: TrainOptions
    data: PreparedData
    clock: Clock | None
    events: FolderEvents
    progress: _Progress
    plan: Plan

    @property
    def folder(self) -> Path:
        return Path(self.options.output)

    def folder_of(self, number: int) -> Path:
        return self.folder / RUNS / str(number + 1)


def planned(options: TrainOptions, data: PreparedData, clock: Clock | None) -> Plan:
    """How many runs of a soup are to be made.

    Args:
        options: of the run; with `auto`, so many that the time is used and each has `SHORTEST` of its updates or more.
        data: prepared.
        clock: of the time limit; None: no limit.
    """
    wanted = options.soup
    if clock is None:
        return Plan(wanted if isinstance(wanted, int) else 1)
    began = clock.elapsed
    budget, config = measured(FineTuning(data, dataclasses.replace(options, calibration=False), clock=clock))
    fixed = clock.elapsed - began  # every run loads the encoder and is measured
    update = max(budget.update, 1e-9)
    between = math.ceil(max(_KEPT_EVERY, budget.checkpoint / _KEEPING) / update)
    kept = 2 * budget.evaluation + (seconds_of_report(data) if options.report else 0.0)
    if isinstance(wanted, int):
        return Plan(wanted, between, kept)
    apart, training = fixed + budget.evaluation, config.steps * update
    left = budget.left - (1 - TARGET) * clock.seconds - kept
    count = current().agree(max(1, min(MOST, math.floor(left / (apart + SHORTEST * training)))))
    if not options.resume:  # what was begun keeps its number
        logger.info(
            "--soup auto: a run of %s takes about %s, %s are left: %s",
            counted(config.steps, "step"), duration(apart + training), duration(max(0.0, left)), counted(count, "run"),
        )  # fmt: skip
    return Plan(count, between, kept)


def is_begun(folder: Path) -> bool:
    """Whether a soup lies in a folder."""
    return current().agree((folder / FILE).is_file())


def make_soup(
    options: TrainOptions,
    data: PreparedData,
    clock: Clock | None,
    events: FolderEvents,
    saved: Callable[..., None],
    plan: Plan,
) -> TrainResult:
    """Make the runs, and put the mean of their weights at the top of the folder.

    Args:
        options: of the run.
        data: prepared.
        clock: of the time limit, which the runs share evenly; None: no limit.
        events: what is done before the first file is written, and with the points of all curves, named after the run
            (`run-1/train/loss`).
        saved: called with the evaluation of the model that is saved, and its encoder's numbers.
        plan: how many runs; a soup that goes on keeps the number that it began with.

    Raises:
        InputError, FaultError, Interrupted: as `fine_tune`.
    """
    folder, world = Path(options.output), current()
    before = world.agree(_read(folder) if options.resume else None)
    if before is not None and (done := world.agree(_done(folder))) is not None:
        return done
    progress = before or _Progress(plan.count, 0.0, [])
    if clock is not None and progress.seconds:
        clock = dataclasses.replace(clock, began=clock.began - progress.seconds)
    soup = _Soup(options, data, clock, events, progress, plan)
    _make_runs(soup)
    return _mean_of_runs(soup, saved)


def _make_runs(soup: _Soup) -> None:
    """The runs that are not finished; fewer than planned where the machine became slower."""
    progress, clock = soup.progress, soup.clock
    while (number := len(progress.runs_made)) < progress.count:
        part = None if clock is None else clock.part(progress.count - number, kept=soup.plan.kept)
        short = part is not None and number > 0 and part.seconds < _LEAST * progress.seconds / number
        if current().agree(short):
            logger.warning(
                "no time is left for run %d of %d; the mean is of %s", number + 1, progress.count,
                counted(number, "run"),
            )  # fmt: skip
            return
        logger.info("run %d of %d, in %s", number + 1, progress.count, soup.folder_of(number))
        result = _one(soup, number, part)
        progress.runs_made.append({"metrics": result.metrics, "steps": result.steps, "collapse": result.collapse})
        progress.seconds = 0.0 if clock is None else clock.elapsed
        progress.write(soup.folder)


def _one(soup: _Soup, number: int, clock: Clock | None) -> TrainResult:
    """One run: from the common start, with an order of the data and a dropout of its own, to its last update."""
    options, folder = soup.options, soup.folder_of(number)
    first, seed = options.seed, options.seed + number

    def from_the_start() -> Network:
        seed_all(first)
        network = network_from(soup.data, options)
        seed_all(seed)
        return network

    def begin() -> None:
        soup.events.begin()
        soup.progress.write(soup.folder)

    def follow(values: Mapping[str, float], step: int) -> None:
        soup.events.follow({f"run-{number + 1}/{name}": value for name, value in values.items()}, step)

    own = dataclasses.replace(
        options, seed=seed, soup=None, output=str(folder), calibration=False, baselines=False, patience=None,
        keep_checkpoints=1,
        resume=options.resume and (folder / "run.yaml").is_file(),
    )  # fmt: skip
    return fine_tune(
        FineTuning(
            soup.data, own, new_network=from_the_start, evaluations=1, checkpoint_every=soup.plan.between, clock=clock,
            further=soup.progress.count - number - 1, events=FolderEvents(begin, follow),
        )
    )  # fmt: skip


def _mean_of_runs(soup: _Soup, saved: Callable[..., None]) -> TrainResult:
    """The mean of the weights, or the best run where that is better; written to the top of the folder."""
    options, data, made = soup.options, soup.data, soup.progress.runs_made
    usable = [number for number, one in enumerate(made) if one["collapse"] is None]
    chosen = usable or list(range(len(made)))
    kept, evaluation = _written(soup, FineTuning(data, options, saved=saved), chosen)
    records = [found[1] for number in range(len(made)) if (found := finished(soup.folder_of(number))) is not None]
    wall = sum(float(one.get("wall_seconds", 0.0)) for one in records)
    steps, seconds, examples = sum(one["steps"] for one in made), 0.0, 0.0
    for metrics in (one["metrics"] for one in made):
        seconds += metrics["train_seconds"]
        examples += metrics["train_seconds"] * metrics["train_examples_per_second"]
    collapse = None if usable else made[0]["collapse"]
    record = {
        **(records or [{}])[0], "seed": options.seed, "steps": steps, "best_step": steps, "collapse": collapse,
        "wall_seconds": round(wall, 3),
    }  # fmt: skip
    metrics = metrics_of_evaluation(evaluation.metrics, examples, seconds)
    values = [one["metrics"][options.metric] for one in made]
    told = {"kept": kept, "runs": values, "averaged": [number + 1 for number in chosen]}
    more: dict[str, Any] = {"soup": told}
    more |= {} if data.validation is None else data.task.metric_settings(data.validation.examples)
    more = write_all(soup.folder, metrics, record, more, lambda: baselines_of(data) if options.baselines else {})
    title = f"{soup.folder}: {f'the mean of {len(chosen)} runs' if kept == 'mean' else kept}; {options.metric} of the "
    title += f"runs {', '.join(f'{value:.4f}' for value in values)}"
    console.print(closing_table(title, data.task, metrics, more.get("baselines", {})))
    soup.progress.write(soup.folder, told)
    if current().is_first:
        shutil.rmtree(soup.folder / RUNS, ignore_errors=True)
    return TrainResult(soup.folder, metrics, steps, more, collapse)


def _written(soup: _Soup, run: FineTuning, chosen: Sequence[int]) -> tuple[str, Evaluation]:
    """Write the mean of the weights of some runs, or the best run where that is better. Returns: which, its figures.

    Better than the mean is the best run where the runs are so on average: picking by less would be by chance.
    """
    metric = str(soup.options.metric)
    values = {number: soup.progress.runs_made[number]["metrics"][metric] for number in chosen}
    network, weights = _mean(soup, chosen)
    kept, evaluation = "mean", judged(run, network)
    on_average = statistics.mean(values.values())
    if len(chosen) > 1 and is_better({metric: on_average}, metric, evaluation.metrics[metric]):
        best = (min if lower_is_better(metric) else max)(values, key=values.__getitem__)
        logger.warning(
            "the mean of the runs' weights has %s %.4f on the validation data, its runs have %.4f on average; the best "
            "run is kept instead", metric, evaluation.metrics[metric], on_average,
        )  # fmt: skip
        kept = f"run {best + 1}"
        network, weights = _mean(soup, [best])
        evaluation = judged(run, network)
    write_model(run, network, weights, evaluation)
    return kept, evaluation


def _mean(soup: _Soup, numbers: Sequence[int]) -> tuple[Network, dict[str, Tensor]]:
    """A network with the mean of the weights of some runs, and that mean in full precision."""
    task, mean = soup.data.task, dict[str, Tensor]()
    for number in numbers:
        stored = read_huggingface(soup.folder_of(number))
        state, _, _ = to_ours(network_names(task, stored.config, stored=False), stored.tensors)
        for name, tensor in state.items():
            share = tensor.float() / len(numbers)
            mean[name] = mean[name] + share if name in mean else share
    with torch.device("meta"):
        network = Network(Encoder(stored.config), task.new_head(stored.config))
    network.load_state_dict({name: tensor.clone() for name, tensor in mean.items()}, assign=True)
    return network.eval(), mean


def _done(folder: Path) -> TrainResult | None:
    """What a soup that is finished came to."""
    found = finished(folder)
    if found is None:
        return None
    metrics, record, more = found
    if current().is_first:
        shutil.rmtree(folder / RUNS, ignore_errors=True)
    return TrainResult(folder, metrics, int(record.get("steps", 0)), more)


def _read(folder: Path) -> _Progress | None:
    """What soup.json holds; None where there is none."""
    path = folder / FILE
    if not path.is_file():
        return None
    found = read_json(path)
    count, seconds, runs = found.get("count"), found.get("seconds"), found.get("runs_made")
    if (
        isinstance(count, int)
        and isinstance(seconds, int | float)
        and isinstance(runs, list)
        and all(map(_is_run, runs))
    ):
        return _Progress(int(count), float(seconds), [dict(one) for one in runs])
    raise InputError(f"{path}: not as bertune wrote it; remove the folder and train again")


def _is_run(one: object) -> bool:
    told = one if isinstance(one, dict) else {}
    return {"steps", "collapse"} <= set(told) and isinstance(told.get("metrics"), dict)
