"""Comparing trained models on the same rows: a metric with its interval for each, and tests for each pair."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import numpy as np

from bertune.data.features import Features
from bertune.data.rows import file_sha256
from bertune.data.subsets import of_examples
from bertune.errors import InputError, Problems
from bertune.evaluation.outcomes import Floats, Judge, Metric, Outcomes, judge_of, retrieved
from bertune.evaluation.significance import bootstrap, bootstrap_p, interval, mcnemar, permutation_p
from bertune.hardware import fast_float32
from bertune.inference.network import infer
from bertune.model.use import Model, load, read_labelled
from bertune.tasks.answers import truth_of
from bertune.tasks.embedding import Embedding
from bertune.tasks.task import Logits, Prediction, Task


@dataclass(frozen=True)
class How:
    """Numbers of a comparison. metric: None for the task's own."""

    metric: str | None = None
    resamples: int = 1000
    seed: int = 0
    batch_size: int = 256
    precision: str = "auto"
    device: str = "auto"
    trust_task_file: str | None = None


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


def compare(folders: Sequence[str | Path], data: str | Path | None = None, how: How | None = None) -> dict[str, Any]:
    """Answer the same rows with every model, and say how their metrics differ.

    Args:
        folders: at least two model folders, for the same task and labels.
        data: labelled rows; None: the validation data that the runs recorded, which must be unchanged.
        how: metric, resamples, and how to compute.

    Returns: `metric`, `data`, `rows`, `resamples`; `runs`, each with its folder, `value`, `low`, `high` (95 %) and all
    metrics; `pairs`, each with the difference of the second from the first, its interval, and the two-sided
    probabilities of a paired bootstrap, of a permutation of the answers, and of McNemar's test of rows wholly right.

    Raises:
        InputError: fewer than two runs, runs of different tasks, labels or data, data that changed, no such metric.
    """
    how = how or How()
    names = [str(folder) for folder in folders]
    problems = Problems()
    if len(names) < 2:
        problems.add("bertune compare: give at least two folders that bertune train wrote")
    if len(set(names)) < len(names):
        problems.add("bertune compare: a folder is named twice")
    if how.resamples < 100:
        problems.add(f"--resamples {how.resamples}: must be at least 100")
    if how.batch_size < 1:
        problems.add(f"--batch-size {how.batch_size}: must be at least 1")
    problems.raise_if_any()
    models = [
        load(name, device=how.device, precision=how.precision, trust_task_file=how.trust_task_file) for name in names
    ]
    _check_alike(names, [model.task for model in models])
    paths = _data(names, models, None if data is None else Path(data))
    judge = models[0].task
    answering = zip(names, models, paths, strict=True)
    runs = [_answers(Path(name), model, path, judge, how) for name, model, path in answering]
    _check_rows(runs)
    return _compared(runs, how)


def _check_alike(names: Sequence[str], tasks: Sequence[Task[Any]]) -> None:
    problems = Problems()
    labels = [sorted(getattr(task, "labels", ())) for task in tasks]
    for name, task, own in zip(names[1:], tasks[1:], labels[1:], strict=True):
        if task.name != tasks[0].name:
            problems.add(f"{name}: is a model for {task.name}, {names[0]} for {tasks[0].name}; compare like with like")
        elif own != labels[0]:
            problems.add(f"{name}: its labels are {', '.join(own)}; those of {names[0]}: {', '.join(labels[0])}")
    problems.raise_if_any()


def _data(names: Sequence[str], models: Sequence[Model], given: Path | None) -> list[Path]:
    """The rows' file for every run: the given one, or the recorded ones, which must be the same and unchanged."""
    if given is not None:
        return [given] * len(names)
    problems = Problems()
    remedy = "name the rows with --data FILE"
    paths, hashes = [], []
    for name, model in zip(names, models, strict=True):
        recorded = (model.record.get("data") or {}).get("validation")
        if not isinstance(recorded, Mapping):
            problems.add(f"{name}: was trained without validation data; {remedy}")
            continue
        path, expected = Path(str(recorded.get("file"))), recorded.get("sha256")
        paths.append(path)
        hashes.append(expected)
        if not path.is_file():
            problems.add(f"{name}: its validation data {path} is not there; {remedy}")
        elif file_sha256(path) != expected:
            problems.add(f"{name}: its validation data {path} has changed since the training; {remedy}")
        elif expected != hashes[0]:
            problems.add(f"{name}: was validated on {path}, {names[0]} on other rows ({paths[0]}); {remedy}")
    problems.raise_if_any()
    return paths


def _answers(folder: Path, model: Model, path: Path, judge: Task[Any], how: How) -> _Run:
    task, examples = model.task, read_labelled(model.task, path)
    problems = Problems()
    problems.extend(f"{folder}: {message}" for message in task.problems(examples, path))
    problems.raise_if_any()
    features = task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="evaluate")
    with fast_float32(model.network.device):
        model.check_int8(features)
        logits = infer(model.network, features, batch_size=how.batch_size).logits
    predictions = task.decode(logits, features, examples)
    outcomes = _outcomes(judge, task, logits, features, examples, predictions)
    return _Run(folder, judge, path, examples, predictions, outcomes)


def _outcomes(
    judge: Task[Any],
    task: Task[Any],
    logits: Logits,
    features: Features,
    examples: Sequence[Any],
    predictions: list[Prediction],
) -> Outcomes:
    judged = judge_of(judge)
    if judged is not None:
        return judged(judge, examples, predictions)
    if isinstance(cast(Any, task), Embedding):
        return retrieved(examples, predictions)
    return _by_the_task(task, logits, features, examples)


def _by_the_task(task: Task[Any], logits: Logits, features: Features, examples: Sequence[Any]) -> Outcomes:
    """Outcomes of a task that nothing here knows: its own metrics, computed anew for every resample.

    Columns of its features must not count places among all examples: a resample holds others, some of them twice.
    """

    def of(metric: str) -> Metric:
        def measure(weights: Floats) -> Floats:
            values = []
            for counts in weights:
                chosen = np.repeat(np.arange(len(examples)), counts.astype(np.int64))
                part, rows = of_examples(features, chosen)
                values.append(
                    task.metrics([logits[i] for i in rows], part, [examples[i] for i in chosen.tolist()])[metric]
                )
            return np.array(values, np.float64)

        return measure

    return Outcomes(len(examples), {name: of(name) for name in task.metrics(logits, features, examples)})


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
            if truth_of(one) != truth_of(other):
                place = getattr(other, "where", None) or f"{run.data}, line {getattr(other, 'place', '?')}"
                raise InputError(
                    f"{place}: {first.folder} reads {truth_of(one)!r} there, {run.folder} {truth_of(other)!r}; were "
                    "they trained with other columns?"
                )


def _compared(runs: Sequence[_Run], how: How) -> dict[str, Any]:
    metrics = runs[0].outcomes.metrics
    shared = [name for name in metrics if all(name in run.outcomes.metrics for run in runs)]
    own = runs[0].judge.metric
    metric = how.metric or (own if own in shared else next((name for name in ("rmse", *shared) if name in shared), own))
    if metric not in shared:
        raise InputError(f"--metric {metric}: compare knows {', '.join(shared)} for this task")
    values = bootstrap([run.outcomes for run in runs], metric, how.resamples, how.seed)
    described: list[dict[str, Any]] = []
    for run, drawn in zip(runs, values, strict=True):
        low, high = interval(drawn)
        own_values = run.outcomes.values()
        described.append(
            {"run": str(run.folder), "value": own_values[metric], "low": low, "high": high, "metrics": own_values}
        )
    judge = judge_of(runs[0].judge)
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
        pairs.append(pair | _tests(runs[i], runs[j], judge, metric, how))
    return {
        "metric": metric,
        "data": str(runs[0].data),
        "rows": runs[0].outcomes.rows,
        "resamples": how.resamples,
        "runs": described,
        "pairs": pairs,
    }


def _tests(one: _Run, other: _Run, judge: Judge | None, metric: str, how: How) -> dict[str, Any]:
    """The tests that need answers one by one."""
    found: dict[str, Any] = {}
    if judge is not None:
        joint = judge(one.judge, one.examples * 2, [*one.predictions, *other.predictions])
        if metric in joint.metrics:
            found["p_permutation"] = permutation_p(joint, metric, how.resamples, how.seed)
    if one.outcomes.right is not None and other.outcomes.right is not None:
        only_one, only_other, p = mcnemar(one.outcomes.right, other.outcomes.right)
        found |= {"only_first_right": only_one, "only_second_right": only_other, "p_mcnemar": p}
    return found
