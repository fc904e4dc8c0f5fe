"""`--folds K`: every row is judged once by a model that has not seen it, and the final model learns from all rows.

Ranks that torchrun started train whole folds side by side, and the final model together.

The models of the folds are trained exactly as the final one is, with its options and its last weights: nothing is
selected by the rows that judge, so their figure is one of the final model. Only their answers stay. `folds.json` holds
the folds that are finished, so that a resumed run goes on with the one that was cut.
"""

import dataclasses
import json
import logging
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.subsets import of_examples
from bertune.distributed.world import apart, current
from bertune.durations import Clock
from bertune.errors import InputError, counted
from bertune.features import Features
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.model.use import evaluate, load
from bertune.progress import console
from bertune.tables import plain_table
from bertune.tasks.held_out import fold_numbers, groups_by_label
from bertune.tasks.labelled import Labelled, groups_of
from bertune.tasks.protocol import Prediction, Task
from bertune.training.fine_tune import FineTuning, fine_tune
from bertune.training.options import TrainOptions
from bertune.training.prepare import PreparedData, Split
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.folder import FolderEvents
from bertune.training.run_folder.report import finished, write_metrics

logger = logging.getLogger(__name__)

FILE, ANSWERS = "folds.json", "out_of_fold.jsonl"
_SHOWN = 5
"""Labels that a message names."""
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Folds:
    """Which fold every row is held out in.

    numbers: from 0. Shape: (rows,).
    """

    numbers: Numbers
    count: int

    @classmethod
    def of(cls, task: Task[Any], rows: Labelled, count: int, group_column: str | None) -> "Folds":
        """Stratified by label; rows of the same texts, or of the same group, in one fold.

        A label that occurs in fewer groups than there are folds is told: some folds are judged without it.

        Raises:
            InputError: fewer groups than folds, also of every single label; no such column.
        """
        groups = None if group_column is None else groups_of(task, rows, group_column)
        numbers = fold_numbers(rows.examples, count, groups)
        if (found := len(np.unique(numbers))) < count:
            what = f"values of --group-column {group_column}" if group_column else "different texts"
            raise InputError(f"--folds {count}: {rows.path} has only {found} {what}; name fewer folds")
        unit = f"values of --group-column {group_column}" if group_column else "different texts"
        by_label = groups_by_label(rows.examples, groups)
        few = sorted((found, label) for label, found in by_label.items() if found < count)
        if few and len(few) == len(by_label):
            most, label = few[-1]
            raise InputError(
                f"--folds {count}: {rows.path} has no label with so many {unit} (the most: {most}, of {label!r}), so "
                "no fold could be judged by all labels; name fewer folds"
            )
        if few:
            shown = ", ".join(f"{label!r} ({found})" for found, label in few[:_SHOWN])
            logger.warning(
                "%s: %s with fewer %s than the %d folds, which some folds are judged without: %s%s", rows.path,
                counted(len(few), "label"), unit, count, shown, ", …" if len(few) > _SHOWN else "",
            )  # fmt: skip
        return cls(numbers, count)

    def rows_of(self, fold: int) -> tuple[Numbers, Numbers]:
        """The rows that a fold trains on, and those that it is judged by. Shape: (rows,) each."""
        held = self.numbers == fold
        return np.flatnonzero(~held), np.flatnonzero(held)


@dataclass(frozen=True)
class _Run:
    """A cross-validation at work. judged: features of all rows, as for evaluation."""

    options: TrainOptions
    data: PreparedData
    judged: Features
    folds: Folds
    clock: Clock | None
    events: FolderEvents

    @property
    def folder(self) -> Path:
        return Path(self.options.output)


def cross_validate(
    options: TrainOptions, data: PreparedData, folds: Folds, clock: Clock | None, events: FolderEvents
) -> TrainResult:
    """Train and judge every fold, then train on all rows.

    Args:
        options: of the final run; folds share them.
        data: all rows, prepared as training data.
        folds: which rows are held out where.
        clock: of the time limit, which folds and final run share evenly.
        events: what is done before the first file is written, and with the points of all curves; those of a fold are
            named after it (`fold-1/train/loss`).

    Raises:
        InputError, FaultError, Interrupted: as `fine_tune`.
    """
    examples, world = data.train.examples, current()
    judged = data.task.featurize(examples, data.tokenizer, data.max_seq_length, purpose="evaluate")
    run = _Run(options, data, judged, folds, clock, events)
    done = _folds_done(run)
    summary = world.agree(_summary(done, _pooled(data.task, examples, _collected(run))) if world.is_first else {})
    goes_on = world.agree(options.resume and (run.folder / "checkpoints").is_dir())
    final = fine_tune(
        FineTuning(
            data,
            dataclasses.replace(options, resume=goes_on),
            events=events,
            clock=None if clock is None else clock.part(1),
        )
    )
    metrics = {**final.metrics, **summary["mean"]}
    more = {"standard_deviation": summary["standard_deviation"], "pooled": summary["pooled"], "folds": done}
    if world.is_first:
        stored = finished(run.folder)
        _write_done(run, done, summary)
        with disk_errors(run.folder, 0):
            for fold in range(folds.count):
                shutil.rmtree(_folder_of(run.folder, fold), ignore_errors=True)
        write_metrics(run.folder, metrics, {} if stored is None else stored[1], more)
        _tell(run, done, summary)
    return TrainResult(run.folder, metrics, final.steps, more, final.collapse)


def _folds_done(run: _Run) -> list[dict[str, Any]]:
    """Train and judge the folds that are not finished; of several ranks each some. Returns: for folds.json, all."""
    world, count = current(), run.folds.count
    done = world.agree(_read(run) if run.options.resume else {})
    left = [fold for fold in range(count) if fold not in done]
    if world.size > 1 and left:
        logger.info("folds %s, side by side on %d ranks", ", ".join(str(fold + 1) for fold in left), world.size)
    for fold in left[world.rank :: world.size]:
        with apart():
            done[fold] = _fold(run, fold)
        if world.is_first:
            _write_done(run, [done[one] for one in sorted(done)])
        else:  # in a file of its own, as rank 0 may be writing the other
            with disk_errors(run.folder, 0):
                write_text(_record_of(run.folder, fold), json.dumps(done[fold]) + "\n")
    for theirs in world.gather(done):
        done |= theirs
    return [done[fold] for fold in range(count)]


def _write_done(run: _Run, done: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None = None) -> None:
    """Keep the folds that are finished, and whose records of their own are no longer needed."""
    with disk_errors(run.folder, 0):
        write_text(run.folder / FILE, json.dumps({"folds": done, **(summary or {})}, indent=2) + "\n")
        for one in done if summary is not None else ():
            _record_of(run.folder, one["fold"] - 1).unlink(missing_ok=True)


def _record_of(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold + 1}.done.json"


def _events_of(events: FolderEvents, fold: int) -> FolderEvents:
    """What is done as a fold goes on; its curves are named after it."""

    def follow(values: Mapping[str, float], step: int) -> None:
        events.follow({f"fold-{fold + 1}/{name}": value for name, value in values.items()}, step)

    return FolderEvents(events.begin, follow)


def _folder_of(folder: Path, fold: int) -> Path:
    return folder / f"fold-{fold + 1}"


def _fold(run: _Run, fold: int) -> dict[str, Any]:
    """Train and judge one fold; its answers stay, its model goes. Returns: for folds.json."""
    train, held = run.folds.rows_of(fold)
    folder, labelled = _folder_of(run.folder, fold), run.data.train.labelled
    logger.info("fold %d of %d: %d rows to train on, %d to judge", fold + 1, run.folds.count, len(train), len(held))
    features, _ = of_examples(run.data.train.features, train)
    mask = np.isin(np.arange(len(run.folds.numbers)), train)
    split = Split(
        run.data.train.path,
        [run.data.train.examples[row] for row in train],
        features,
        run.data.train.sha256,
        None if labelled is None else labelled.chosen(mask, labelled.held_out),
    )
    changes: dict[str, Any] = {"output": str(folder), "folds": None, "keep_checkpoints": 1}
    changes["resume"] = run.options.resume and (folder / "run.yaml").is_file()
    left = run.folds.count + 1 - fold
    result = fine_tune(
        FineTuning(
            dataclasses.replace(run.data, splits={"train": split}),
            dataclasses.replace(run.options, **changes),
            further=0,
            events=_events_of(run.events, fold),
            clock=None if run.clock is None else run.clock.part(left),
        )
    )
    examples = [run.data.train.examples[row] for row in held]
    judged, _ = of_examples(run.judged, held)
    trust = run.options.task.rpartition(":")[0] or None
    model = load(folder, device=run.options.device, precision=run.options.precision, trust_task_file=trust)
    found = evaluate(model.network, model.task, judged, examples)
    metrics = {name: value for name, value in found.metrics.items() if name != "examples_per_second"}
    lines = [
        json.dumps({**answer, "fold": fold + 1, "row": int(row) + 1}, ensure_ascii=False)
        for row, answer in zip(held, model.task.decode(found.logits, judged, examples), strict=True)
    ]
    with disk_errors(folder, 0):
        write_text(folder.with_suffix(".jsonl"), "".join(line + "\n" for line in lines))
        shutil.rmtree(folder)
    return {"fold": fold + 1, "rows": len(held), "metrics": metrics, "steps": result.steps}


def _collected(run: _Run) -> list[Prediction]:
    """The answers of all folds in the order of the rows, which are written to one file."""
    lines: dict[int, str] = {}
    parts = [_folder_of(run.folder, fold).with_suffix(".jsonl") for fold in range(run.folds.count)]
    target = run.folder / ANSWERS
    for part in parts if parts[0].is_file() else [target]:
        for line in part.read_text(encoding="utf-8").splitlines():
            lines[int(json.loads(line)["row"])] = line
    if sorted(lines) != list(range(1, len(run.folds.numbers) + 1)):
        raise InputError(f"{run.folder}: answers of some folds are missing; remove the folder and train again")
    ordered = [lines[row] for row in sorted(lines)]
    with disk_errors(target, 0):
        write_text(target, "".join(line + "\n" for line in ordered))
        for part in parts:
            part.unlink(missing_ok=True)
    return [
        {name: value for name, value in json.loads(line).items() if name not in ("fold", "row")} for line in ordered
    ]


def _pooled(task: Task[Any], examples: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, float]:
    """Metrics of all answers at once; none where the task's metrics do not follow from answers."""
    rows = task.row_metrics(examples, predictions)
    return {} if rows is None else rows.metrics()


def _summary(done: Sequence[Mapping[str, Any]], pooled: Mapping[str, float]) -> dict[str, dict[str, float]]:
    first, *others = (one["metrics"] for one in done)
    names = [name for name in first if all(name in other for other in others)]
    by_name = {name: [one["metrics"][name] for one in done] for name in names}
    return {
        "mean": {name: statistics.mean(values) for name, values in by_name.items()},
        "standard_deviation": {name: float(np.std(values, ddof=1)) for name, values in by_name.items()},
        "pooled": dict(pooled),
    }


def _tell(run: _Run, done: Sequence[Mapping[str, Any]], summary: Mapping[str, Mapping[str, float]]) -> None:
    """A column a fold, mean and deviation, and the metrics of all answers at once."""
    heads = [f"fold {one['fold']}" for one in done]
    rows = []
    for name, mean in summary["mean"].items():
        values = [*(one["metrics"][name] for one in done), mean, summary["standard_deviation"][name]]
        pooled = summary["pooled"].get(name)
        rows.append((name, *(f"{value:.4f}" for value in values), "" if pooled is None else f"{pooled:.4f}"))
    title = f"{run.folder}: rows judged by models that have not seen them; the final model learnt from all rows"
    console.print(plain_table(title, ("", *heads, "mean", "deviation", "pooled"), rows))


def _read(run: _Run) -> dict[int, dict[str, Any]]:
    """The records of the folds that are finished, by fold from 0."""
    path = run.folder / FILE
    records: Any = read_json(path).get("folds") if path.is_file() else []
    if not isinstance(records, list) or not all(isinstance(one, dict) and "fold" in one for one in records):
        raise InputError(f"{path}: not as bertune wrote it; remove the folder and train again")
    own = (_record_of(run.folder, fold) for fold in range(run.folds.count))
    return {one["fold"] - 1: one for one in [*records, *(read_json(file) for file in own if file.is_file())]}
