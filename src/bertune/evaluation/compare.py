"""Comparing trained models on the same rows: a metric with its interval for each, and tests for each pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bertune.data.columns import named
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.evaluation.outcomes import FromTask, Outcomes
from bertune.evaluation.significance import bootstrap, bootstrap_p, interval, mcnemar, permutation_p
from bertune.inference.evaluation import infer
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.presence import require_model
from bertune.model.use import Model, load
from bertune.tasks.labelled import Labelled, read_recorded
from bertune.tasks.protocol import Prediction, Task
from bertune.tasks.row_metrics import RowMetrics


@dataclass(frozen=True)
class CompareSettings:
    """Numbers of a comparison. metric: None for the task's own.  fewest: runs that there must be."""

    metric: str | None = None
    resamples: int = 1000
    seed: int = 0
    batch_size: int = 256
    precision: str = "auto"
    device: str = "auto"
    trust_task_file: str | None = None
    fewest: int = 2


@dataclass(frozen=True)
class _Run:
    """A run's model folder, its answers to the rows, and what they came to.

    judge: the task that judges all runs, so that the same label is the positive one for all.
    """

    folder: Path
    judge: Task[Any]
    data: Path
    examples: list[Any]
    predictions: list[Prediction]
    outcomes: Outcomes


def compare(
    folders: Sequence[str | Path], data: str | Path | None = None, settings: CompareSettings | None = None
) -> dict[str, Any]:
    """Answer the same rows with every model, and say how their metrics differ.

    Args:
        folders: at least two model folders, for the same task and labels.
        data: labelled rows; None: the validation data that the runs recorded, which must be unchanged.
        settings: metric, resamples, and how to compute.

    Returns: `metric`, `data`, `rows`, `resamples`; `runs`, each with its folder, `value`, `low`, `high` (95 %) and all
    metrics; `pairs`, each with the difference of the second from the first, its interval, and the two-sided
    probabilities of a paired bootstrap, of a permutation of the answers, and of McNemar's test of rows wholly right.

    Raises:
        InputError: fewer than two runs, runs of different tasks, labels or data, data that changed, no such metric.
    """
    settings = settings or CompareSettings()
    names = [str(folder) for folder in folders]
    problems = Problems()
    if len(names) < settings.fewest:
        problems.add("bertune compare: give at least two folders that bertune train wrote")
    if len(set(names)) < len(names):
        problems.add("bertune compare: a folder is named twice")
    if settings.resamples < 100:
        problems.add(f"--resamples {settings.resamples}: must be at least 100")
    if settings.batch_size < 1:
        problems.add(f"--batch-size {settings.batch_size}: must be at least 1")
    problems.raise_if_any()
    for name in names:
        require_model(Path(name), "")
    models = [
        load(name, device=settings.device, precision=settings.precision, trust_task_file=settings.trust_task_file)
        for name in names
    ]
    _check_same_task(names, [model.task for model in models])
    data_of_runs = _data(names, models, None if data is None else Path(data))
    judge = models[0].task
    answering = zip(names, models, data_of_runs, strict=True)
    runs = [_answers(Path(name), model, rows, judge, settings) for name, model, rows in answering]
    _check_rows(runs)
    return _compared(runs, settings)


def _check_same_task(names: Sequence[str], tasks: Sequence[Task[Any]]) -> None:
    problems = Problems()
    labels = [sorted(getattr(task, "labels", ())) for task in tasks]
    for name, task, own in zip(names[1:], tasks[1:], labels[1:], strict=True):
        if task.name != tasks[0].name:
            problems.add(f"{name}: is a model for {task.name}, {names[0]} for {tasks[0].name}; compare like with like")
        elif own != labels[0]:
            problems.add(f"{name}: its labels are {named(own)}; those of {names[0]}: {named(labels[0])}")
    problems.raise_if_any()


def _data(names: Sequence[str], models: Sequence[Model], given: Path | None) -> list[Labelled]:
    """The rows for every run: those of the given file, or the recorded ones, which must be the same and unchanged."""
    if given is not None:
        return [Labelled.read(model.task, given, "--data") for model in models]
    problems = Problems()
    remedy = "name the rows with --data FILE"
    found: list[Labelled] = []
    known: list[Mapping[str, Any]] = []
    for name, model in zip(names, models, strict=True):
        recorded = (model.record.get("data") or {}).get("validation")
        if not isinstance(recorded, Mapping):
            problems.add(f"{name}: was trained without validation data; {remedy}")
            continue
        known.append(recorded)
        try:
            found.append(read_recorded(model.task, recorded, model.record.get("options")))
        except InputError as error:
            problems.extend(f"{name}: {message}; {remedy}" for message in str(error).splitlines())
            continue
        if any(recorded.get(key) != known[0].get(key) for key in ("sha256", "held_out")):
            problems.add(
                f"{name}: was validated on {recorded.get('file')}, {names[0]} on other rows ({known[0].get('file')}); "
                f"{remedy}"
            )
    problems.raise_if_any()
    return found


def _answers(folder: Path, model: Model, rows: Labelled, judge: Task[Any], settings: CompareSettings) -> _Run:
    task, examples, path = model.task, rows.examples, rows.path
    problems = Problems()
    problems.extend(f"{folder}: {message}" for message in rows.problems(task))
    problems.raise_if_any()
    check_pairs(trained_on_pairs(model.record), examples)
    features = task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="evaluate")
    with fast_float32(model.network.device):
        model.check_int8(features)
        logits = infer(model.network, features, batch_size=settings.batch_size).logits
    predictions = task.decode(logits, features, examples)
    known = judge.row_metrics(examples, predictions)
    outcomes = FromTask(task, logits, features, examples) if known is None else known
    return _Run(folder, judge, path, examples, predictions, outcomes)


def _check_rows(runs: Sequence[_Run]) -> None:
    """Raises InputError where runs read different rows out of the same file (other columns, another language)."""
    first = runs[0]
    for run in runs[1:]:
        if len(run.examples) != len(first.examples):
            raise InputError(
                f"{run.folder}: reads {len(run.examples)} rows from {run.data}, {first.folder} reads "
                f"{len(first.examples)} from {first.data}; compare on the same rows"
            )
        for one, other in zip(first.examples, run.examples, strict=True):
            here, there = first.judge.true_answer(one), run.judge.true_answer(other)
            if here != there:
                place = getattr(other, "where", None) or f"{run.data}, line {getattr(other, 'place', '?')}"
                raise InputError(
                    f"{place}: {first.folder} reads {here!r} there, {run.folder} {there!r}; were "
                    "they trained with other columns?"
                )


def _compared(runs: Sequence[_Run], settings: CompareSettings) -> dict[str, Any]:
    metrics = [run.outcomes.metrics() for run in runs]
    shared = [name for name in metrics[0] if all(name in found for found in metrics)]
    own = runs[0].judge.metric
    metric = settings.metric or (
        own if own in shared else next((name for name in ("rmse", *shared) if name in shared), own)
    )
    if metric not in shared:
        raise InputError(f"--metric {metric}: compare knows {', '.join(shared)} for this task")
    values = bootstrap([run.outcomes for run in runs], metric, settings.resamples, settings.seed)
    described: list[dict[str, Any]] = []
    for run, drawn, found in zip(runs, values, metrics, strict=True):
        low, high = interval(drawn)
        described.append({"run": str(run.folder), "value": found[metric], "low": low, "high": high, "metrics": found})
    pairs = []
    for i, j in combinations(range(len(runs)), 2):
        low, high = interval(values[j] - values[i])
        pair = {
            "first": str(runs[i].folder),
            "second": str(runs[j].folder),
            "difference": described[j]["value"] - described[i]["value"],
            "low": low,
            "high": high,
            "p_bootstrap": bootstrap_p(values[j] - values[i]),
        }
        pairs.append(pair | _tests(runs[i], runs[j], metric, settings))
    return {
        "metric": metric,
        **runs[0].judge.metric_settings(runs[0].examples),
        "data": str(runs[0].data),
        "rows": len(runs[0].outcomes),
        "resamples": settings.resamples,
        "runs": described,
        "pairs": pairs,
    }


def _tests(one: _Run, other: _Run, metric: str, settings: CompareSettings) -> dict[str, Any]:
    """The tests that need answers one by one."""
    found: dict[str, Any] = {}
    if isinstance(one.outcomes, RowMetrics) and one.outcomes.independent:
        joint = one.judge.row_metrics(one.examples * 2, [*one.predictions, *other.predictions])
        if joint is not None and metric in joint.metrics():
            found["p_permutation"] = permutation_p(joint, metric, settings.resamples, settings.seed)
    if one.outcomes.correct is not None and other.outcomes.correct is not None:
        only_one, only_other, p = mcnemar(one.outcomes.correct, other.outcomes.correct)
        found |= {"only_first_right": only_one, "only_second_right": only_other, "p_mcnemar": p}
    return found
