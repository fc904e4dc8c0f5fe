"""Everything that a report says, as one JSON value: from a run's folder and its answers to labelled rows."""

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.features import Features
from bertune.data.rows import file_sha256
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.evaluation.baselines import baselines
from bertune.evaluation.outcomes import FromTask, Outcomes
from bertune.evaluation.significance import bootstrap, interval
from bertune.files.json_files import read_json
from bertune.inference.evaluation import infer
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.presence import require_model
from bertune.model.use import Model, load
from bertune.report import figures
from bertune.report.options import ReportOptions
from bertune.tasks.labelled import Labelled, read_recorded
from bertune.tasks.parts import parts_of
from bertune.tasks.protocol import Prediction

logger = logging.getLogger(__name__)

MOST_ERRORS = 200
"""Errors in the page; all of them are in the file beside it."""
MOST_CLASSES = 25
"""Classes up to which the whole matrix of confusions is shown."""


@dataclasses.dataclass(frozen=True)
class Answered:
    """A model's answers to labelled rows. tokens: read of each row.  cut: whether a row lost tokens."""

    model: Model
    path: Path
    examples: list[Any]
    predictions: list[Prediction]
    outcomes: Outcomes
    tokens: npt.NDArray[np.int64]
    cut: npt.NDArray[np.bool_]

    @property
    def truth(self) -> list[Any]:
        """True answers."""
        return [self.model.task.true_answer(example) for example in self.examples]

    @property
    def answers(self) -> list[Any]:
        """The model's."""
        return [self.model.task.predicted_answer(prediction) for prediction in self.predictions]


def collect(folder: Path, options: ReportOptions) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report of a run, and all its errors.

    Args:
        folder: a model folder that `bertune train` wrote.
        options: data, and how to compute.

    Raises:
        InputError: no model, no data, rows that the model cannot judge.
    """
    require_model(folder, "")
    model = load(folder, device=options.device, precision=options.precision, trust_task_file=options.trust_task_file)
    answered = _answer(model, _data(folder, model, options), options)
    found = answered.outcomes.metrics()
    metric = model.task.metric if model.task.metric in found else next(iter(found), "")
    wrong = _errors(answered)
    report: dict[str, Any] = {
        "task": model.task.name,
        "metric": metric,
        **model.task.metric_settings(answered.examples),
        "rows": len(answered.examples),
        "data": str(answered.path),
        "data_sha256": file_sha256(answered.path) if answered.path.is_file() else None,
        "run": _run_facts(folder, model),
        "metrics": _metrics(answered.outcomes, found, options.resamples),
        "baselines": _baselines(answered, options),
        "curves": curves(folder / "logs"),
        "lengths": _lengths(answered),
        **_by_answers(answered),
        "slices": _slices(answered),
        "errors": wrong[:MOST_ERRORS],
        "errors_in_all": len(wrong),
        "contrary": _contrary(answered),
    }
    return report, wrong


def _data(folder: Path, model: Model, options: ReportOptions) -> Labelled:
    if options.data is not None:
        return Labelled.read(model.task, options.data, "--data")
    recorded = (model.record.get("data") or {}).get("validation")
    if not isinstance(recorded, Mapping):
        raise InputError(f"{folder}: was trained without validation data; name labelled rows with --data FILE")
    try:
        return read_recorded(model.task, recorded)
    except InputError as error:
        raise InputError(f"{folder}: {error}; name labelled rows with --data FILE") from None


def _answer(model: Model, rows: Labelled, options: ReportOptions) -> Answered:
    task, examples, path = model.task, rows.examples, rows.path
    problems = Problems()
    problems.extend(rows.problems(task))
    problems.raise_if_any()
    check_pairs(trained_on_pairs(model.record), examples)
    features = task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="evaluate")
    with fast_float32(model.network.device):
        logits = infer(model.network, features, batch_size=options.batch_size).logits
    predictions = task.decode(logits, features, examples)
    known = task.row_metrics(examples, predictions)
    outcomes: Outcomes = FromTask(task, logits, features, examples) if known is None else known
    tokens, cut = _tokens(features, len(examples))
    return Answered(model, path, examples, list(predictions), outcomes, tokens, cut)


def _tokens(features: Features, rows: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    owners = np.asarray(features.example_index)
    tokens = np.bincount(owners, weights=features.input_ids.lengths, minlength=rows).astype(np.int64)
    cut = np.zeros(rows, np.bool_)
    if len(features.cut):
        cut[owners[np.asarray(features.cut)]] = True
    return tokens, cut


def _metrics(outcomes: Outcomes, found: Mapping[str, float], resamples: int) -> list[dict[str, Any]]:
    """Every metric with its bootstrapped 95 % interval."""
    rows = []
    for name, value in found.items():
        low, high = interval(bootstrap([outcomes], name, resamples, 0)[0])
        rows.append({"metric": name, "value": value, "low": low, "high": high})
    return rows


def _run_facts(folder: Path, model: Model) -> dict[str, Any]:
    record = read_json(folder / "metrics.json").get("record") if (folder / "metrics.json").is_file() else {}
    kept = ("bertune", "torch", "python", "device", "precision", "threads", "seed", "steps", "best_step",
            "wall_seconds", "collapse")  # fmt: skip
    config = model.network.encoder.config
    return {
        "folder": str(folder),
        "encoder": str(model.record.get("encoder", "")),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        "max_seq_length": model.max_seq_length,
        "weights_sha256": model.record.get("weights_sha256"),
        "data": model.record.get("data") or {},
        "command": f"bertune train --config {folder / 'run.yaml'}",
        **{name: (record or {}).get(name) for name in kept},
    }


def _baselines(answered: Answered, options: ReportOptions) -> dict[str, Any]:
    """What simple methods reach, learnt from the training data if they are still as they were."""
    if not options.baselines:
        return {}
    recorded = (answered.model.record.get("data") or {}).get("train")
    facts: Mapping[str, Any] = recorded if isinstance(recorded, Mapping) else {}
    try:
        known = read_recorded(answered.model.task, facts)
    except InputError:
        logger.info("simple methods are left out: the training data are not there, or have changed")
        return {}
    return baselines(answered.model.task, known.examples, answered.examples)


def curves(logs: Path) -> dict[str, list[tuple[int, float]]]:
    """TensorBoard's curves of a run: steps and values by name; none where there are no records."""
    if not logs.is_dir():
        return {}
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in sorted(logs.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found[value.tag][event.step] = float(value.simple_value)
    return {name: sorted(points.items()) for name, points in found.items()}


def _lengths(answered: Answered) -> dict[str, Any]:
    counts, edges = np.histogram(answered.tokens, bins=min(12, max(1, len(set(answered.tokens.tolist())))))
    bars = [{"from": int(a), "to": int(b), "rows": int(n)} for a, b, n in zip(edges, edges[1:], counts, strict=False)]
    return {"bars": bars, "cut": int(answered.cut.sum())}


def _by_answers(answered: Answered) -> dict[str, Any]:
    """What the form of the answers allows: classes, sets of labels, entities, numbers, texts."""
    truth, answers = answered.truth, answered.answers
    found: dict[str, Any] = {}
    labels = [str(label) for label in getattr(answered.model.task, "labels", ())]
    first = next((one for one in answers if one is not None), None)
    if "entities" in answered.predictions[0]:
        spans = [frozenset((one.label, one.start, one.end) for one in true) for true in truth]
        found["entity_errors"] = figures.entity_errors(spans, answers)
    elif isinstance(first, frozenset):
        sets = [frozenset(one) for one in truth]
        found["classes"] = figures.per_class(sets, answers, labels)
    elif isinstance(first, float):
        found["numbers"] = [[float(a), float(b)] for a, b in zip(truth, answers, strict=True)]
    elif labels and isinstance(first, str):
        found["classes"] = figures.per_class(truth, answers, labels)
        whole = figures.confusion(truth, answers, labels)
        found["confusion"] = whole if len(labels) <= MOST_CLASSES else whole | {"labels": [], "counts": []}
    correct = answered.outcomes.correct
    confidence = _confidence(answered.predictions)
    if correct is not None and confidence is not None:
        found["reliability"] = figures.reliability(confidence, correct)
        found["coverage"] = figures.coverage(confidence, correct)
    scores = [one.get("scores") for one in answered.predictions]
    if "confusion" in found and all(isinstance(one, dict) and len(one) == len(labels) for one in scores):
        probabilities = np.array([[one[label] for label in labels] for one in scores if one], np.float64)
        given = np.array([labels.index(one) for one in truth])
        found["reliability"] |= {"brier": figures.brier(probabilities, given)}
        doubtful = figures.doubtful_labels(probabilities, given)
        found["suspects"] = [_row(answered, int(row)) for row in doubtful[:MOST_ERRORS]]
    return found


def _confidence(predictions: Sequence[Prediction]) -> npt.NDArray[np.float64] | None:
    """A probability for every answer, where the task gives one."""
    scores = [one.get("score") for one in predictions]
    if not all(isinstance(score, float | int) and 0 <= score <= 1 for score in scores):
        return None
    if all(one.keys() == {"score"} for one in predictions):  # the answer itself, not how sure it is
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


def _row(answered: Answered, row: int) -> dict[str, Any]:
    """A row for people: where it stands, its text, truth, answer, score."""
    example, prediction = answered.examples[row], answered.predictions[row]
    parts = parts_of(example)
    text = " ¦ ".join(parts.texts.values()) if parts is not None else str(getattr(example, "text", example))
    score = prediction.get("score")
    return {
        "row": row + 1,
        "place": (parts.place if parts is not None else 0) or row + 1,
        "text": text,
        "truth": _shown(answered.model.task.true_answer(example)),
        "answer": _shown(answered.model.task.predicted_answer(prediction)),
        "score": float(score) if isinstance(score, float | int) else None,
    }


def _errors(answered: Answered) -> list[dict[str, Any]]:
    """Rows that are wrong: the surest first; of numbers the farthest from the truth first."""
    correct = answered.outcomes.correct
    truth, answers = answered.truth, answered.answers
    numbers = all(isinstance(a, int | float) and isinstance(b, float) for a, b in zip(truth, answers, strict=True))
    if numbers:
        distance = np.abs(np.array(truth, np.float64) - np.array(answers, np.float64))
        order = [int(row) for row in np.argsort(-distance, kind="stable") if distance[row] > 0]
        return [{**_row(answered, row), "kind": "distance", "distance": float(distance[row])} for row in order]
    if correct is None:
        return []
    rows = np.flatnonzero(~np.asarray(correct))
    found = [{**_row(answered, int(row)), "kind": _kind(truth[row], answers[row])} for row in rows]
    return sorted(found, key=lambda one: -(one["score"] if one["score"] is not None else 0.0))


def _kind(truth: Any, answer: Any) -> str:
    if answer in ("", None, frozenset()):
        return "missed"
    if truth in ("", None, frozenset(), ()):
        return "spurious"
    return f"{_shown(truth)} → {_shown(answer)}" if isinstance(truth, str) and isinstance(answer, str) else "other"


def _slices(answered: Answered) -> list[dict[str, Any]]:
    """Groups of rows: by length, cut or not, script, rare labels."""
    correct = answered.outcomes.correct
    if correct is None:
        return []
    low, high = np.quantile(answered.tokens, [1 / 3, 2 / 3])
    groups = {
        f"short (up to {low:.0f} tokens)": answered.tokens <= low,
        f"long (over {high:.0f} tokens)": answered.tokens > high,
        "cut at the length limit": answered.cut,
    }
    texts = [_row(answered, row)["text"] for row in range(len(answered.examples))]
    groups["with Chinese characters"] = np.array([any("\u4e00" <= c <= "\u9fff" for c in text) for text in texts])
    groups["with digits"] = np.array([any(c.isdecimal() for c in text) for text in texts])
    truth = answered.truth
    if all(isinstance(one, str) for one in truth):
        counts = Counter(truth)
        rare = sorted(counts, key=lambda name: counts[name])[: max(1, len(counts) // 4)]
        if len(counts) > 3:
            groups["rarest quarter of the labels"] = np.array([one in rare for one in truth])
    return figures.slices(groups, np.asarray(correct))


def _contrary(answered: Answered) -> list[dict[str, Any]]:
    """Rows whose texts are equal but for case and white space, and whose true answers differ."""
    alike: dict[str, list[int]] = defaultdict(list)
    for row in range(len(answered.examples)):
        alike[" ".join(_row(answered, row)["text"].casefold().split())].append(row)
    truth = answered.truth
    return [
        _row(answered, row) for rows in alike.values() if len({_shown(truth[row]) for row in rows}) > 1 for row in rows
    ][:MOST_ERRORS]
