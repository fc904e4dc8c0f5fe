"""Predictions beside the truth, row by row, so that metrics can be had of any weighting of the rows.

A model's metrics are the task's own (`Task.metrics`). Here are the same figures as functions of predictions (the JSON
objects that `predict` writes) and of how often every row counts: for answers that need no model (baselines), and for
resampling (comparisons), where almost every metric follows from sums over rows, a thousand resamples at a time.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.tasks.embedding import ranks_of
from bertune.tasks.multi_label import MultiLabelClassification
from bertune.tasks.multiple_choice import MultipleChoice
from bertune.tasks.question_answering import QuestionAnswering
from bertune.tasks.regression import Regression, spearman
from bertune.tasks.squad.metrics import question_scores
from bertune.tasks.task import Prediction, Task
from bertune.tasks.text_classification import TextClassification
from bertune.tasks.token_classification import TokenClassification

Floats = npt.NDArray[np.float64]
Metric = Callable[[Floats], Floats]
"""How often every row counts → the metric. Shape: (weightings, rows) → (weightings,)."""


@dataclass(frozen=True)
class Outcomes:
    """What a file's rows came to under some predictions.

    rows: how many.
    metrics: by name, as functions of the rows' weights.
    right: whether a row's answer is wholly right, where there is such a thing. Shape: (rows,).
    """

    rows: int
    metrics: Mapping[str, Metric]
    right: npt.NDArray[np.bool_] | None = None

    def values(self) -> dict[str, float]:
        """Every metric, each row counted once."""
        once = np.ones((1, self.rows))
        return {name: float(metric(once)[0]) for name, metric in self.metrics.items()}


Judge = Callable[[Any, Sequence[Any], Sequence[Prediction]], Outcomes]


def judge_of(task: Task[Any]) -> Judge | None:
    """What judges predictions of this task; None for tasks that only their own metrics judge."""
    return next((judge for kind, judge in _JUDGES.items() if isinstance(task, kind)), None)


def _ratio(part: Floats, whole: Floats) -> Floats:
    """Part / whole, 0 where whole is 0."""
    result: Floats = np.divide(part, whole, out=np.zeros_like(part, np.float64), where=whole != 0)
    return result


def _scores(right: Floats, found: Floats, true: Floats) -> dict[str, Floats]:
    return {"f1": _ratio(2 * right, found + true), "precision": _ratio(right, found), "recall": _ratio(right, true)}


def labelled(task: TextClassification, examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:
    """Outcomes of `{"label"}` predictions; metrics as `text_classification.classification_metrics` defines them."""
    index = {label: i for i, label in enumerate(task.labels)}
    truth = np.array([index[str(example.label)] for example in examples])
    answer = np.array([index[prediction["label"]] for prediction in predictions])
    classes = np.arange(len(index))
    true, found = (truth[:, None] == classes).astype(np.float64), (answer[:, None] == classes).astype(np.float64)
    right = true * found

    def part(name: str) -> Metric:
        def metric(weights: Floats) -> Floats:
            scores = _scores(weights @ right, weights @ found, weights @ true)[name]
            return scores[:, 1] if len(index) == 2 else scores.mean(1)

        return metric

    def matthews(weights: Floats) -> Floats:
        """Gorodkin, 2004: the correlation of several classes, 0 where a side does not vary."""
        count, t, p = weights.sum(1), weights @ true, weights @ found
        agreeing = (weights @ right).sum(1) * count - (t * p).sum(1)
        spread = np.sqrt((count**2 - (p**2).sum(1)) * (count**2 - (t**2).sum(1)))
        return _ratio(agreeing, spread)

    same = truth == answer
    metrics = {"accuracy": _mean(same), **{name: part(name) for name in ("f1", "precision", "recall")}}
    return Outcomes(len(truth), metrics | {"matthews_correlation": matthews}, same)


def chosen(task: MultipleChoice, examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:  # noqa: ARG001
    """Outcomes of `{"answer": place}` predictions."""
    pairs = zip(examples, predictions, strict=True)
    same = np.array([prediction["answer"] == example.answer for example, prediction in pairs], np.bool_)
    return Outcomes(len(same), {"accuracy": _mean(same)}, same)


def answered(task: QuestionAnswering, examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:  # noqa: ARG001
    """Outcomes of `{"answer": text}` predictions, in per cent as SQuAD counts; with unanswerable questions by kind."""
    answerable = np.array([bool(example.answers) and not example.is_impossible for example in examples], np.bool_)
    pairs = [
        question_scores(prediction["answer"], [answer.text for answer in example.answers] if has else [])
        for example, prediction, has in zip(examples, predictions, answerable, strict=True)
    ]
    scores = 100 * np.array(pairs, np.float64).reshape(-1, 2)
    groups = {"": np.ones(len(pairs), np.bool_)}
    if not answerable.all():
        groups |= {"HasAns_": answerable, "NoAns_": ~answerable}
    metrics = {
        f"{prefix}{name}": _mean(column, group)
        for prefix, group in groups.items()
        for name, column in zip(("exact_match", "f1"), scores.T, strict=True)
        if group.any()
    }
    return Outcomes(len(pairs), metrics, scores[:, 0] > 0)


def measured(task: Regression, examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:  # noqa: ARG001
    """Outcomes of `{"score": number}` predictions."""
    truth = np.array([example.value for example in examples], np.float64)
    found = np.array([prediction["score"] for prediction in predictions], np.float64)
    a, b = truth - truth.mean(), found - found.mean()
    sums = np.stack([a, b, a * a, b * b, a * b], 1)

    def correlation(weights: Floats) -> Floats:
        x, y, xx, yy, xy = (weights @ sums / weights.sum(1, keepdims=True)).T
        return _ratio(xy - x * y, np.sqrt(np.maximum((xx - x * x) * (yy - y * y), 0)))

    def by_rank(weights: Floats) -> Floats:  # ranks change with the rows
        rows = (np.repeat(np.arange(len(truth)), counts.astype(np.int64)) for counts in weights)
        return np.array([spearman(truth[some], found[some]) for some in rows])

    squares, errors = _mean(np.square(truth - found)), _mean(np.abs(truth - found))
    metrics = {"pearson": correlation, "spearman": by_rank, "rmse": lambda w: np.sqrt(squares(w)), "mae": errors}
    return Outcomes(len(truth), metrics)


def several(task: MultiLabelClassification, examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:
    """Outcomes of `{"labels": [names]}` predictions."""
    true = np.array([[label in example.labels for label in task.labels] for example in examples], np.float64)
    found = np.array([[label in given["labels"] for label in task.labels] for given in predictions], np.float64)
    same = (true == found).all(1)
    names = {f"f1_{label}": i for i, label in enumerate(task.labels)}

    def by_label(weights: Floats) -> Floats:
        return _scores(weights @ (true * found), weights @ found, weights @ true)["f1"]

    def one(at: int) -> Metric:
        return lambda weights: by_label(weights)[:, at]

    metrics = _pooled(true * found, found, true)
    metrics |= {"f1_macro": lambda weights: by_label(weights).mean(1), "accuracy": _mean(same)}
    return Outcomes(len(same), metrics | {name: one(at) for name, at in names.items()}, same)


def tagged(task: TokenClassification, examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:  # noqa: ARG001
    """Outcomes of `{"entities": […]}` predictions: an entity counts when its type and both its ends are right."""
    true = [{(one.label, one.start, one.end) for one in example.entities} for example in examples]
    found = [{(one["label"], one["start"], one["end"]) for one in given["entities"]} for given in predictions]
    labels = sorted({label for entities in (*true, *found) for label, _, _ in entities})
    shared = [t & f for t, f in zip(true, found, strict=True)]
    right, given, wanted = (_by_label(entities, labels) for entities in (shared, found, true))
    metrics = _pooled(right, given, wanted)
    for at, label in enumerate(labels):
        one = slice(at, at + 1)
        metrics |= _pooled(right[:, one], given[:, one], wanted[:, one], suffix=f"_{label}")
    return Outcomes(len(true), metrics, np.array([t == f for t, f in zip(true, found, strict=True)], np.bool_))


def retrieved(examples: Sequence[Any], predictions: Sequence[Prediction]) -> Outcomes:
    """Outcomes of an embedding's pairs: every first text looks for its own second among those of all rows.

    What is looked through stays the same however the rows are weighted.
    """
    vectors = [np.array(prediction["embeddings"], np.float32) for prediction in predictions]
    numbers: dict[str, int] = {}
    texts = [[numbers.setdefault(text, len(numbers)) for text in example.texts[1:]] for example in examples]
    order = [0, *range(1, max(map(len, texts)))]  # seconds of all rows, then their negatives
    pool = np.stack([rows[1 + i] for i in order for rows in vectors if len(rows) > 1 + i])
    text = np.array([some[i] for i in order for some in texts if len(some) > i])
    ranks = ranks_of(np.stack([rows[0] for rows in vectors]), pool, text)
    metrics = {"accuracy": _mean(ranks == 1), "recall_at_10": _mean(ranks <= 10), "mrr": _mean(1 / ranks)}
    return Outcomes(len(ranks), metrics, ranks == 1)


def _by_label(entities: Sequence[set[tuple[str, int, int]]], labels: Sequence[str]) -> Floats:
    counts = [Counter(label for label, _, _ in some) for some in entities]
    return np.array([[count[label] for label in labels] for count in counts], np.float64).reshape(-1, len(labels))


def _pooled(right: Floats, found: Floats, true: Floats, suffix: str = "") -> dict[str, Metric]:
    """f1, precision and recall of all columns together."""
    sums = np.stack([right.sum(1), found.sum(1), true.sum(1)], 1)

    def part(name: str) -> Metric:
        return lambda weights: _scores(*(weights @ sums).T)[name]

    return {f"{name}{suffix}": part(name) for name in ("f1", "precision", "recall")}


def _mean(values: npt.NDArray[Any], group: npt.NDArray[np.bool_] | None = None) -> Metric:
    """The mean over rows, or over those of a group."""
    chosen_rows = np.ones(len(values)) if group is None else group.astype(np.float64)
    column = values.astype(np.float64) * chosen_rows
    return lambda weights: _ratio(weights @ column, weights @ chosen_rows)


_JUDGES: dict[type, Judge] = {
    TextClassification: labelled,
    MultipleChoice: chosen,
    QuestionAnswering: answered,
    Regression: measured,
    MultiLabelClassification: several,
    TokenClassification: tagged,
}
