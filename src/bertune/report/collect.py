"""Everything that a report says, as one JSON value: from a run's folder and its answers to labelled rows."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.evaluation.baselines import baselines
from bertune.evaluation.outcomes import Outcomes
from bertune.evaluation.significance import bootstrap_all, interval
from bertune.files.json_files import read_json
from bertune.report import figures
from bertune.report.alike import contrary_pairs
from bertune.report.answers import Answered, text_of
from bertune.report.calibrated import calibration_of
from bertune.report.curves import curves
from bertune.report.opinions import Judged, judged_together
from bertune.report.options import ReportOptions
from bertune.report.slices import slices_of
from bertune.tasks.held_out import column_values
from bertune.tasks.labelled import read_recorded
from bertune.tasks.parts import parts_of
from bertune.tasks.protocol import Prediction
from bertune.tasks.row_metrics import Floats

logger = logging.getLogger(__name__)

MOST_ERRORS = 200
"""Errors in the page; all of them are in the file beside it."""
MOST_METRICS = 40
"""Metrics with an interval; of very many classes the rest have none."""

_NUMBER = {"score", "low", "high", "embeddings"}
"""Keys of a prediction that is a number."""


@dataclasses.dataclass(frozen=True)
class Collected:
    """What a report is written from.

    figures: all of them, as JSON values.
    errors: every row that is wrong.
    suspects: rows whose label may be wrong, the likeliest first, with the label that the model would give.
    """

    figures: dict[str, Any]
    errors: list[dict[str, Any]]
    suspects: list[dict[str, Any]]


def collect(folder: Path, answered: Answered, options: ReportOptions, train: Sequence[Any] | None = None) -> Collected:
    """The figures of a report.

    Args:
        folder: a model folder that `bertune train` wrote.
        answered: the model's answers to labelled rows.
        options: what to show.
        train: the training examples; None: they are read again, where they are still as they were.
    """
    outcomes = answered.outcomes()
    found = outcomes.metrics()
    metric = answered.task.metric if answered.task.metric in found else next(iter(found), "")
    wrong = _errors(answered, outcomes)
    train = _training_examples(answered) if train is None else train
    known_texts = None if train is None else map(text_of, train)
    by_answers, suspects = _by_answers(answered, outcomes, train, options)
    report: dict[str, Any] = {
        "task": answered.task.name,
        "metric": metric,
        **answered.task.metric_settings(answered.examples),
        "rows": len(answered.examples),
        "data": str(answered.path),
        "data_sha256": file_sha256(answered.path) if answered.path.is_file() else None,
        "recorded": answered.recorded,
        "run": _run_facts(folder, answered),
        "metrics": _metrics(outcomes, found, options.resamples),
        "baselines": _baselines(folder, answered, train if options.baselines else None),
        "curves": curves(folder / "logs"),
        "lengths": _lengths(answered),
        **by_answers,
        **_diagnostics(answered),
        "slices": slices_of(answered, known_texts, _columns(answered, options)),
        "errors": wrong[:MOST_ERRORS],
        "errors_in_all": len(wrong),
        "suspects_in_all": len(suspects),
        "contrary": _contrary(answered),
    }
    return Collected(report, wrong, suspects)


def _metrics(outcomes: Outcomes, found: Mapping[str, float], resamples: int) -> list[dict[str, Any]]:
    """Every metric with its bootstrapped 95 % interval."""
    names = list(found)[:MOST_METRICS]
    drawn = bootstrap_all(outcomes, names, resamples, 0)
    rows = []
    for name, value in found.items():
        low, high = interval(drawn[name]) if name in drawn else (None, None)
        rows.append({"metric": name, "value": value, "low": low, "high": high})
    return rows


def _run_facts(folder: Path, answered: Answered) -> dict[str, Any]:
    record = read_json(folder / "metrics.json").get("record") if (folder / "metrics.json").is_file() else {}
    names = ("bertune", "torch", "python", "device", "precision", "threads", "seed", "steps", "best_step",
             "wall_seconds", "collapse")  # fmt: skip
    return {
        "folder": str(folder),
        "encoder": str(answered.record.get("encoder", "")),
        "layers": answered.config.num_hidden_layers,
        "hidden_size": answered.config.hidden_size,
        "max_seq_length": answered.max_seq_length,
        "weights_sha256": answered.record.get("weights_sha256"),
        "data": answered.record.get("data") or {},
        "command": f"bertune train --config {folder / 'run.yaml'}",
        **{name: (record or {}).get(name) for name in names},
    }


def _training_examples(answered: Answered) -> list[Any] | None:
    """The training data, if they are still as they were."""
    recorded = (answered.record.get("data") or {}).get("train")
    facts: Mapping[str, Any] = recorded if isinstance(recorded, Mapping) else {}
    try:
        return read_recorded(answered.task, facts, answered.record.get("options")).examples
    except InputError:
        logger.info("simple methods and unseen words are left out: the training data are not there, or have changed")
        return None


def _baselines(folder: Path, answered: Answered, train: Sequence[Any] | None) -> dict[str, Any]:
    """What simple methods reach: as the run recorded it on these rows, else what they learn from the training data."""
    path = folder / "metrics.json"
    if answered.recorded and path.is_file():
        recorded = read_json(path).get("baselines")
        if isinstance(recorded, dict):
            return recorded
    return {} if train is None else baselines(answered.task, train, answered.examples)


def _columns(answered: Answered, options: ReportOptions) -> dict[str, list[str]]:
    """Values of the columns that `--slice-column` names, one a row."""
    names = options.slice_column or ()
    return {
        name: [
            str(value)
            for value in column_values(
                [answered.path], [answered.examples], name, answered.task.options, flag="--slice-column"
            )
        ]
        for name in names
    }


def _lengths(answered: Answered) -> dict[str, Any]:
    tokens = answered.tokens()
    counts, edges = np.histogram(tokens, bins=min(12, max(1, len(set(tokens.tolist())))))
    bars = [{"from": int(a), "to": int(b), "rows": int(n)} for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    return {"bars": bars, "cut": int(answered.cut().sum())}


def _by_answers(
    answered: Answered, outcomes: Outcomes, train: Sequence[Any] | None, options: ReportOptions
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the form of the answers allows (classes, sets of labels, entities, numbers, texts), and suspect labels."""
    truth, answers = answered.truth, answered.answers
    found: dict[str, Any] = {}
    suspects: list[dict[str, Any]] = []
    labels = [str(label) for label in getattr(answered.task, "labels", ())]
    first = next((one for one in answers if one is not None), None)
    if "entities" in answered.predictions[0]:
        spans = [frozenset((one.label, one.start, one.end) for one in true) for true in truth]
        found["entity_errors"] = figures.entity_errors(spans, answers)
    elif isinstance(first, frozenset):
        found["classes"] = figures.per_class([frozenset(one) for one in truth], answers, labels)
    elif isinstance(first, float):
        found["numbers"] = [[float(a), float(b)] for a, b in zip(truth, answers, strict=True)]
    elif labels and isinstance(first, str):
        found["classes"] = figures.per_class(truth, answers, labels)
        found["confusion"] = figures.confusion(truth, answers, labels)
    confidence = confidence_of(answered.predictions)
    if outcomes.correct is not None and confidence is not None:
        found["reliability"] = figures.reliability(confidence, outcomes.correct)
        found["coverage"] = figures.coverage(confidence, outcomes.correct)
    calibration = calibration_of(answered)
    if calibration is not None:
        found["calibration"] = calibration
    probabilities = _probabilities(answered, labels) if "confusion" in found else None
    if probabilities is not None:
        place = {label: index for index, label in enumerate(labels)}
        given = np.array([place[one] for one in truth], np.int64)
        found["reliability"] |= {"brier": figures.brier(probabilities, given)}
        judged = Judged(answered.examples, given, labels)
        together = judged_together(judged, probabilities, answered.record, train) if options.opinions else probabilities
        suspects = _suspects(answered, together, judged)
        found["suspects"] = suspects[:MOST_ERRORS]
        found["suspects_expected"] = figures.expected_label_errors(probabilities, given)
    return found, suspects


def _suspects(answered: Answered, probabilities: Floats, judged: Judged) -> list[dict[str, Any]]:
    """Rows whose label may be wrong, the likeliest first. Shape: probabilities (rows, labels)."""
    return [
        {
            **row_of(answered, int(row)),
            "file": str(answered.path_of(int(row))),
            "suggested": judged.labels[int(probabilities[row].argmax())],
            "self_confidence": float(probabilities[row, judged.given[row]]),
        }
        for row in figures.doubtful_labels(probabilities, judged.given)
    ]


def _diagnostics(answered: Answered) -> Mapping[str, Any]:
    if answered.logits is None:
        return {}
    return answered.task.diagnostics(answered.logits, answered.features, answered.examples)


def _probabilities(answered: Answered, labels: Sequence[str]) -> Floats | None:
    """Of every class; None where predictions show some of them alone. Shape: (rows, classes)."""
    rows = answered.calibration_rows()
    if rows is not None:
        return rows.probabilities()
    scores = [one.get("scores") for one in answered.predictions]
    if not all(isinstance(one, dict) and len(one) == len(labels) for one in scores):
        return None
    return np.array([[one[label] for label in labels] for one in scores if one], np.float64)


def confidence_of(predictions: Sequence[Prediction]) -> npt.NDArray[np.float64] | None:
    """A probability for every answer, where the task gives one. Shape: (rows,)."""
    scores = [one.get("score") for one in predictions]
    if not all(isinstance(score, float | int) and 0 <= score <= 1 for score in scores):
        return None
    if all(one.keys() <= _NUMBER for one in predictions):  # the score is the answer itself, not how sure it is
        return None
    return np.array(scores, np.float64)


def _shown(answer: Any) -> str:
    if isinstance(answer, float):
        return f"{answer:.4g}"
    if isinstance(answer, frozenset | tuple | list | set):
        parts = [
            f"{one.label} {one.start}–{one.end}" if hasattr(one, "label") and hasattr(one, "start")
            else f"{one[0]} {one[1]}–{one[2]}" if isinstance(one, tuple) and len(one) == 3 else str(one)
            for one in answer
        ]  # fmt: skip
        return ", ".join(sorted(parts))
    return "" if answer is None else str(answer)


def row_of(answered: Answered, row: int) -> dict[str, Any]:
    """A row for people: where it stands, its text, truth, answer, score."""
    example, prediction = answered.examples[row], answered.predictions[row]
    score = prediction.get("score")
    return {
        "row": row + 1,
        "place": parts_of(example).place or row + 1,
        "text": text_of(example),
        "truth": _shown(answered.task.true_answer(example)),
        "answer": _shown(answered.task.predicted_answer(prediction)),
        "score": float(score) if isinstance(score, float | int) else None,
    }


def _errors(answered: Answered, outcomes: Outcomes) -> list[dict[str, Any]]:
    """Rows that are wrong: the surest first; of numbers the farthest from the truth first."""
    correct = outcomes.correct
    truth, answers = answered.truth, answered.answers
    numbers = all(isinstance(a, int | float) and isinstance(b, float) for a, b in zip(truth, answers, strict=True))
    if numbers:
        distance = np.abs(np.array(truth, np.float64) - np.array(answers, np.float64))
        order = [int(row) for row in np.argsort(-distance, kind="stable") if distance[row] > 0]
        return [{**row_of(answered, row), "kind": "distance", "distance": float(distance[row])} for row in order]
    if correct is None:
        return []
    rows = np.flatnonzero(~np.asarray(correct))
    found = [{**row_of(answered, int(row)), "kind": _kind(truth[row], answers[row])} for row in rows]
    return sorted(found, key=lambda one: -(one["score"] if one["score"] is not None else 0.0))


def _kind(truth: Any, answer: Any) -> str:
    if answer in ("", None, frozenset()):
        return "missed"
    if truth in ("", None, frozenset(), ()):
        return "spurious"
    return f"{_shown(truth)} → {_shown(answer)}" if isinstance(truth, str) and isinstance(answer, str) else "other"


def _contrary(answered: Answered) -> list[dict[str, Any]]:
    """Rows of nearly equal texts whose true answers differ, in pairs; where answers are no labels, of equal words.

    Numbers differ where they are a fifth of their range apart.
    """
    texts = [parts_of(one).texts or {"text": text_of(one)} for one in answered.examples]
    truth = answered.truth
    labels: Sequence[Any] = [_shown(one) for one in truth]
    numbers = all(isinstance(one, int | float) for one in truth)
    if numbers:
        spread = (max(truth) - min(truth)) or 1.0
        labels = [round(5 * (one - min(truth)) / spread) for one in truth]
    named = all(isinstance(one, str | frozenset) for one in truth)
    pairs = [one for one in contrary_pairs(texts, labels) if named or numbers or one.similarity == 1]
    return [
        {**row_of(answered, row), "pair": number, "alike": round(pair.similarity, 3)}
        for number, pair in enumerate(pairs[: MOST_ERRORS // 2], 1)
        for row in (pair.first, pair.second)
    ]
