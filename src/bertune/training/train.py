"""`bertune train`: from options to a trained model in its run folder."""

import dataclasses
import functools
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bertune.argument_names import python_call
from bertune.data.in_memory import data_path
from bertune.distributed.world import current
from bertune.durations import Clock, seconds_of
from bertune.errors import InputError, counted
from bertune.files.yaml_files import read_yaml, write_yaml
from bertune.model.provenance import RECORD_KEY, dropout_record
from bertune.network import batch_loss
from bertune.option_values import checked_values
from bertune.options import keyword_problems
from bertune.progress import console
from bertune.tasks.held_out import SHARE
from bertune.tasks.labelled import Labelled, hold_out
from bertune.tasks.protocol import Task, metric_in_words
from bertune.tasks.registry import new_task, task_kind
from bertune.tasks.user_files import is_own
from bertune.training.closing_report import SavedModel, report_files, seconds_of_report, write_closing_report
from bertune.training.config import check_run, resumes
from bertune.training.cross_validation import FILE as FOLDS_FILE
from bertune.training.cross_validation import Folds, cross_validate
from bertune.training.fine_tune import FineTuning, baselines_of, fine_tune, metric_problems, technique_problems
from bertune.training.label_margins import FILE as MARGINS_FILE
from bertune.training.label_margins import LabelMargins
from bertune.training.options import TrainOptions
from bertune.training.prepare import PreparedData, length_problems, prepare, source_problems
from bertune.training.presets import said_option, with_preset, with_preset_of_task
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import disk_errors, run_errors
from bertune.training.run_folder.folder import FolderEvents
from bertune.training.run_folder.output import drops_by_example
from bertune.training.run_folder.report import write_all
from bertune.training.runs.collapse import FEW_UPDATES
from bertune.training.runs.seeds import run_seeds
from bertune.training.soup import Plan, is_begun, make_soup, planned
from bertune.training.tracking import tracked

logger = logging.getLogger(__name__)


@python_call
def train(**options: Any) -> TrainResult:
    """Fine-tune an encoder; the keywords are the options of `bertune train`, the task's own among them.

    `train` and `validation` may also be tables in memory (frames of pandas or polars, Arrow tables, a Dataset, lists of
    mappings); they are kept as files in the cache folder, which run.yaml names.

    Raises:
        InputError: bad options or data; nothing has been written then.
    """
    kind = task_kind(str(options.get("task")))
    own = {field.name for field in dataclasses.fields(kind.Options)}
    known = {field.name for field in dataclasses.fields(TrainOptions)}
    keyword_problems("train", options, known | own, ("task", "encoder", "train", "output"))
    if isinstance(seeds := options.get("seeds"), list | tuple):
        options["seeds"] = ",".join(map(str, seeds))
    paths = {"train", "validation", "output", "encoder"}
    for name in ("train", "validation"):
        if options.get(name) is not None:
            options[name] = _data(options[name], name)
    general: dict[str, Any] = {
        name: _as_text(value) if name in paths and value is not None else value
        for name, value in options.items()
        if name in known
    }
    task_options = {name: value for name, value in options.items() if name in own}
    began = time.monotonic()
    general = with_preset(checked_values(TrainOptions, general), task_options)
    return run(TrainOptions(**general), task_options, began=began)


def _data(data: Any, role: str) -> Any:
    """What names the data of a role: paths as they are, tables in memory by their files; of a list each."""
    if isinstance(data, list | tuple) and data and not any(isinstance(one, Mapping) for one in data):
        return [data_path(one, role) for one in data]
    return data_path(data, role)


def _as_text(path: Any) -> str | list[str]:
    """A path, or several, as the options have them."""
    if isinstance(path, list | tuple):
        return str(path[0]) if len(path) == 1 else [str(one) for one in path]
    return str(path)


def run(
    options: TrainOptions,
    task_options: Mapping[str, Any],
    *,
    began: float | None = None,
    clock: Clock | None = None,
) -> TrainResult:
    """One training run, from options to the closing table.

    Args:
        options: of the run.
        task_options: the task's own.
        began: of `time.monotonic`, when a time limit begins; None: now.
        clock: of the limit that several runs share; None: of the options'.

    Raises:
        InputError: bad options or data; nothing has been written then.
        FaultError: disk or memory gave out; the last checkpoint, if there is one, is kept.
        Interrupted: by SIGINT or SIGTERM; a checkpoint is kept.
    """
    clock = clock or time_limit(options, began)
    with run_errors(Path(options.output), "train"):
        options = dataclasses.replace(options, resume=resumes(options))
        task = new_task(options.task, with_preset_of_task(options, task_options))
        options = as_begun(with_share(with_defaults(options, task)))
        tree = dataclasses.asdict(dataclasses.replace(options, resume=False)) | dataclasses.asdict(task.options)
        by_example = current().agree(drops_by_example(Path(options.output), resume=options.resume))
        by_example = by_example and is_own(task)  # others may draw random numbers in head or loss
        tree[RECORD_KEY] = dropout_record(by_example=by_example)
        read = _read(options, task, tree)
        data = functools.cache(lambda: dataclasses.replace(prepare(task, read, options), drops_by_example=by_example))
        if options.folds is not None:
            folds = Folds.of(task, read["train"], options.folds, options.group_column)
            return _train_folds(options, tree, data, folds, clock)
        if options.seeds is not None:
            return _train_seeds(options, tree, data, clock)
        if options.soup is None:
            return _train_once(options, data(), clock)
        plan = planned(options, data(), clock)
        several = is_begun(Path(options.output)) if options.resume else plan.count > 1
        if several:
            return _train_soup(options, tree, data(), clock, plan)
        if options.soup == "auto" and not options.patience:
            return _train_once(options, data(), clock, evaluations=1, checkpoint_every=plan.between)
        return _train_once(options, data(), clock)


def _train_once(
    options: TrainOptions,
    data: PreparedData,
    clock: Clock | None,
    *,
    evaluations: int | None = None,
    checkpoint_every: int | None = None,
) -> TrainResult:
    """One run. evaluations, checkpoint_every: see `FineTuning`."""
    saved: list[SavedModel] = []
    margins = LabelMargins(batch_loss(data.task.loss), data.task, data.train) if options.label_margins else None
    with tracked(options.track or (), Path(options.output), dataclasses.asdict(options)) as tracking:
        result = fine_tune(
            FineTuning(
                data, options, loss=margins, events=FolderEvents(tracking.start, tracking.log),
                saved=lambda *found: _keep(saved, SavedModel(*found)), clock=_before_report(options, data, clock),
                evaluations=evaluations, checkpoint_every=checkpoint_every,
            )
        )  # fmt: skip
        if margins is not None:
            with disk_errors(result.output / MARGINS_FILE, 0):
                margins.write(result.output)
        if options.report:
            write_closing_report(options, data, saved[-1] if saved else None, clock)
        tracking.finish(result.metrics, report_files(result.output))
    return result


def _before_report(options: TrainOptions, data: PreparedData, clock: Clock | None) -> Clock | None:
    """A clock that leaves time for the closing report."""
    return clock if clock is None or not options.report else clock.part(1, kept=seconds_of_report(data))


def _keep(saved: list[SavedModel], found: SavedModel) -> None:
    """Keep the last model alone: logits of many rows take memory."""
    saved[:] = [found]


def _train_soup(
    options: TrainOptions, tree: Mapping[str, Any], data: PreparedData, clock: Clock | None, plan: Plan
) -> TrainResult:
    folder, saved = Path(options.output), list[SavedModel]()
    with tracked(options.track or (), folder, dataclasses.asdict(options)) as tracking:

        def begin() -> None:
            _begin(folder, tree)
            tracking.start()

        events = FolderEvents(begin, tracking.log)
        result = make_soup(options, data, clock, events, lambda *found: _keep(saved, SavedModel(*found)), plan)
        if options.report:
            write_closing_report(options, data, saved[-1] if saved else None, clock)
        tracking.finish(result.metrics, report_files(folder))
    return result


def time_limit(options: TrainOptions, began: float | None = None) -> Clock | None:
    """A clock of the options' time limit; None without one, or where it is no duration and will be refused.

    began: of `time.monotonic`; None: now.
    """
    if options.time_limit is None or options.time_problems():
        return None
    return Clock(seconds_of(options.time_limit), time.monotonic() if began is None else began)


def _train_folds(
    options: TrainOptions,
    tree: Mapping[str, Any],
    data: Callable[[], PreparedData],
    folds: Folds,
    clock: Clock | None,
) -> TrainResult:
    folder = Path(options.output)
    with tracked(options.track or (), folder, dataclasses.asdict(options)) as tracking:

        def begin() -> None:
            _begin(folder, tree)
            tracking.start()

        left = _before_report(options, data(), clock)
        result = cross_validate(options, data(), folds, left, FolderEvents(begin, tracking.log))
        if options.report:
            write_closing_report(options, data(), None, clock)
        tracking.finish(result.metrics, [*report_files(folder), folder / FOLDS_FILE])
    return result


def _train_seeds(
    options: TrainOptions, tree: Mapping[str, Any], data: Callable[[], PreparedData], clock: Clock | None
) -> TrainResult:
    """The run once with each seed, in folders of their own; mean and spread, and the best model on top.

    data: prepared once, and only where a seed is still to be trained.
    clock: of the time limit, which the seeds that are still to be trained share evenly.
    """
    folder, seeds = Path(options.output), options.seed_list
    saved: dict[int, SavedModel] = {}

    def train_seed(seed: int, own: Path, resume: bool) -> TrainResult:
        changes: dict[str, Any] = {"seed": seed, "seeds": None, "baselines": False, "output": str(own)}
        changes["resume"] = resume
        further = len(seeds) - 1 - seeds.index(seed)
        left = _before_report(options, data(), clock)
        part = None if left is None else left.part(further + 1)
        own_options = dataclasses.replace(options, **changes)
        with tracked(options.track or (), own, dataclasses.asdict(own_options)) as tracking:

            def begin() -> None:
                _begin(folder, tree)
                tracking.start()

            result = fine_tune(
                FineTuning(
                    data(), own_options, further=further, events=FolderEvents(begin, tracking.log), clock=part,
                    saved=lambda *kept: saved.__setitem__(seed, SavedModel(*kept)),
                )
            )  # fmt: skip
            tracking.finish(result.metrics)
        return result

    found = run_seeds(folder, seeds, str(options.metric), train_seed, resume=options.resume)
    metrics = found.metrics[found.best]
    record = {**found.record, "seed": found.best, "seeds": list(seeds)}
    more = {**found.beside, "mean": found.mean, "standard_deviation": found.deviation}
    more = write_all(folder, metrics, record, more, lambda: baselines_of(data()) if options.baselines else {})
    title = f"{folder}: the model of seed {found.best}, best by {options.metric}"
    console.print(found.table(title, more.get("baselines", {}), functools.partial(metric_in_words, data().task)))
    collapse = found.record.get("collapse") if found.steps >= FEW_UPDATES else None
    if options.report:
        write_closing_report(options, data(), saved.get(found.best), clock)
    with tracked(options.track or (), folder, dataclasses.asdict(options)) as tracking:  # one run more, of them all
        tracking.start()
        tracking.finish({**metrics, **_spread(found.mean, found.deviation)}, report_files(folder))
    return TrainResult(folder, metrics, found.steps, more, collapse)


def _spread(mean: Mapping[str, float], deviation: Mapping[str, float]) -> dict[str, float]:
    """Mean and deviation over the seeds, by names of their own."""
    groups = {"mean": mean, "standard_deviation": deviation}
    return {f"{group}/{name}": value for group, found in groups.items() for name, value in found.items()}


def _begin(folder: Path, tree: Mapping[str, Any]) -> None:
    """Make the folder of several runs, whose run.yaml repeats them all."""
    with disk_errors(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
        write_yaml(folder / "run.yaml", tree)


def with_defaults(options: TrainOptions, task: Task[Any]) -> TrainOptions:
    """The options with the task's defaults where they are None."""
    own = dataclasses.asdict(task.defaults) | {"metric": task.metric}
    return dataclasses.replace(
        options, **{name: value for name, value in own.items() if getattr(options, name) is None}
    )


def with_share(options: TrainOptions) -> TrainOptions:
    """The options with the share to hold out where they leave it open; runs of older versions held nothing out."""
    if options.validation is not None or options.validation_share is not None:
        return options
    share, before = 0.0 if options.folds is not None else SHARE, Path(options.output) / "run.yaml"
    if options.resume and before.is_file() and "validation_share" not in read_yaml(before):
        share = 0.0
    return dataclasses.replace(options, validation_share=share)


def as_begun(options: TrainOptions) -> TrainOptions:
    """The options of a run that goes on, without what the version that began it did not do."""
    before = Path(options.output) / "run.yaml"
    if options.resume and before.is_file() and "calibration" not in read_yaml(before):
        return dataclasses.replace(options, calibration=False)
    return options


def _read(options: TrainOptions, task: Task[Any], tree: Mapping[str, Any]) -> dict[str, Labelled]:
    """Check options, output folder and data files together. Returns: what each role's files hold.

    Raises:
        InputError: all problems at once.
    """
    problems = [*source_problems(options.encoder), *length_problems(options, task), *technique_problems(options, task)]
    problems += metric_problems(options.metric, task)
    if options.metric != task.metric and not options.validates:
        problems.append(
            f"--metric {options.metric}: picks the best model on validation data; name some with --validation"
        )
    paths = {"train": options.train, "validation": options.validation}
    read = {
        role: functools.partial(Labelled.read, task, path, f"--{role}")
        for role, path in paths.items()
        if path is not None
    }
    found = check_run(options, tree, read, problems)
    whole = options.validation is not None or options.folds is not None
    return found if whole else _held_out(options, task, found["train"])


def _held_out(options: TrainOptions, task: Task[Any], rows: Labelled) -> dict[str, Labelled]:
    """Training and validation rows from one table; a warning where nothing is held out.

    Raises:
        InputError: nothing can be held out, but an option needs it.
    """
    share = options.validation_share
    held = None if not share else hold_out(task, rows, share, options.group_column)
    if held is not None:
        logger.info(
            "%s: %d of %d rows are held out to measure the model (--validation-share %g)",
            rows.path, len(held[1].examples), len(rows.examples), share,
        )  # fmt: skip
        return {"train": held[0], "validation": held[1]}
    few = f"{rows.path}: {counted(len(rows.examples), 'row')}, too few or too much alike to hold {share} of them out"
    needy = [f"--{name}" for name in ("seeds", "baselines") if getattr(options, name)]
    needy += [said_option(options, name) for name in ("patience", "soup") if getattr(options, name)]
    if share and needy:
        raise InputError(f"{few}, which {', '.join(needy)} needs; name validation data with --validation")
    logger.warning(
        "%s, so nothing says how good the model is, and the last one is kept; name validation data with --validation",
        few if share else "nothing is held out (--validation-share 0)",
    )
    return {"train": rows}
