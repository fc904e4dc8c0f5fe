"""SQuAD's figures of a set of questions, in per cent, as the official evaluation scripts (v1.1, v2.0) report them.

How an answer is compared with a gold answer is the matter of an `AnswerMetric`.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from bertune.errors import InputError
from bertune.tasks.row_metrics import Floats, RowMetrics, ratio
from bertune.tasks.squad.answer_metrics import AnswerMetric
from bertune.tasks.squad.metric_choice import choose_metric
from bertune.tasks.squad.reading import QuestionExample
from bertune.tasks.squad.thresholds import best_applied_threshold


def evaluate(
    examples: Sequence[QuestionExample],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    span_texts: Mapping[str, str] | None = None,
    metric: AnswerMetric | None = None,
) -> dict[str, float]:
    """Metrics of a set of questions.

    Args:
        examples: labelled questions.
        predictions: answer by question id; "" is "no answer".
        null_odds: by question id, greater for rather unanswerable ones; they give the best_* keys.
        span_texts: for the best_* keys, the answers whatever the threshold. Without them `predictions` are used, as
            the official script does, which cannot bring back an answer that is "" already.
        metric: how answers are compared; None: as `choose_metric` chooses for these questions.

    Returns:
        exact_match, f1 (per cent), total; where there are unanswerable questions also HasAns_* and NoAns_* of the same;
        with null_odds best_exact, best_exact_thresh, best_f1, best_f1_thresh: as the official script searches them. Its
        0.0, where answering nothing is best, is meant for probabilities; see `threshold_to_apply`.

    Raises:
        InputError: no questions, or questions without a prediction or odds.
    """
    if not examples:
        raise InputError("there are no questions to evaluate")
    _check_ids(examples, predictions, "prediction")
    answerable = {example.id: _is_answerable(example) for example in examples}
    metric = metric or choose_metric(examples)
    scores = {example.id: _scores(metric, example, predictions) for example in examples}
    metrics = _means(list(scores.values()), "")
    if not all(answerable.values()):
        for prefix, kind in (("HasAns_", True), ("NoAns_", False)):
            part = [scores[name] for name, has_answer in answerable.items() if has_answer is kind]
            metrics |= _means(part, prefix) if part else {}
    if null_odds is not None:
        _check_ids(examples, null_odds, "null odds")
        texts = predictions if span_texts is None else span_texts
        _check_ids(examples, texts, "span text")
        raw = scores if span_texts is None else {example.id: _scores(metric, example, texts) for example in examples}
        for key, column in (("best_exact", 0), ("best_f1", 1)):
            values = {name: pair[column] for name, pair in raw.items()}
            odds = {example.id: null_odds[example.id] for example in examples}
            metrics[key], metrics[f"{key}_thresh"] = find_best_threshold(texts, values, odds, answerable)
    return metrics


def threshold_to_apply(
    examples: Sequence[QuestionExample],
    null_odds: Mapping[str, float],
    span_texts: Mapping[str, str],
    metric: AnswerMetric | None = None,
) -> tuple[float, float]:
    """The null threshold with the best F1 when it is applied to odds that are differences of logits, and that F1.

    Args:
        examples: labelled questions.
        null_odds: by question id.
        span_texts: by question id, the best span whatever the threshold; "" where there is none.
        metric: how answers are compared; None: as `choose_metric` chooses.

    Returns: the threshold, and F1 in per cent.
    """
    metric = metric or choose_metric(examples)
    nothing = dict.fromkeys(span_texts, "")
    odds = np.array([null_odds[example.id] for example in examples], np.float64)
    answered = np.array([_scores(metric, example, span_texts)[1] for example in examples], np.float64)
    unanswered = np.array([_scores(metric, example, nothing)[1] for example in examples], np.float64)
    threshold, mean = best_applied_threshold(odds, answered, unanswered)
    return threshold, 100.0 * mean


def answer_scores(examples: Sequence[QuestionExample], answers: Sequence[str], metric: AnswerMetric) -> Floats:
    """Exact match and F1 of every answer, in per cent. Shape: (questions, 2)."""
    pairs = zip(examples, answers, strict=True)
    return 100 * np.array([_scores(metric, example, {example.id: answer}) for example, answer in pairs]).reshape(-1, 2)


def question_rows(
    examples: Sequence[QuestionExample], answers: Sequence[str], metric: AnswerMetric | None = None
) -> RowMetrics:
    """exact_match and f1 of questions, row by row; where some are unanswerable also HasAns_ and NoAns_ of the same.

    Args:
        examples: labelled questions.
        answers: one each; "" is "no answer".
        metric: how answers are compared; None: as `choose_metric` chooses.
    """
    metric = metric or choose_metric(examples)
    answerable = np.array([_is_answerable(example) for example in examples], np.bool_)
    scores = answer_scores(examples, answers, metric)
    counted = np.concatenate([np.ones((len(scores), 1)), scores], 1)
    kinds = {"HasAns_": answerable[:, None] * counted, "NoAns_": ~answerable[:, None] * counted}
    prefixes = [""] if answerable.all() else ["", *(name for name, part in kinds.items() if part[:, 0].any())]

    def aggregate(sums: Floats) -> dict[str, Floats]:
        has, no = np.split(sums, 2, axis=-1)
        parts = {"": has + no, "HasAns_": has, "NoAns_": no}
        return {
            f"{prefix}{name}": ratio(parts[prefix][..., i], parts[prefix][..., 0])
            for prefix in prefixes
            for i, name in ((1, "exact_match"), (2, "f1"))
        }

    return RowMetrics(np.concatenate(list(kinds.values()), 1), aggregate, scores[:, 0] > 0)


def find_best_threshold(
    predictions: Mapping[str, str],
    scores: Mapping[str, float],
    null_odds: Mapping[str, float],
    answerable: Mapping[str, bool],
) -> tuple[float, float]:
    """The best mean score (per cent) that answering only questions with odds up to a threshold gives, and it.

    The official v2.0 script: beginning with no question answered, they are answered in the order of their odds; the
    threshold is the odds of the last one at the best moment (0.0 if that is the beginning).
    """
    current = best = float(sum(not has_answer for has_answer in answerable.values()))
    threshold = 0.0
    for name in sorted(null_odds, key=lambda name: null_odds[name]):
        if answerable[name]:
            current += scores[name]
        elif predictions[name]:
            current -= 1.0
        if current > best:
            best, threshold = current, float(null_odds[name])
    return 100.0 * best / len(scores), threshold


def _is_answerable(example: QuestionExample) -> bool:
    return bool(example.answers) and not example.is_impossible


def _scores(metric: AnswerMetric, example: QuestionExample, predictions: Mapping[str, str]) -> tuple[float, float]:
    golds = [answer.text for answer in example.answers] if _is_answerable(example) else []
    return metric.scores(predictions[example.id], golds)


def _means(pairs: Sequence[tuple[float, float]], prefix: str) -> dict[str, float]:
    count = len(pairs)
    return {
        f"{prefix}exact_match": 100.0 * sum(pair[0] for pair in pairs) / count,
        f"{prefix}f1": 100.0 * sum(pair[1] for pair in pairs) / count,
        f"{prefix}total": count,
    }


def _check_ids(examples: Sequence[QuestionExample], given: Mapping[str, object], what: str) -> None:
    missing = [example.id for example in examples if example.id not in given]
    if missing:
        some = ", ".join(map(repr, missing[:5])) + (", …" if len(missing) > 5 else "")
        raise InputError(
            f"{len(missing)} of {len(examples)} questions have no {what}: {some}; every question needs one"
        )
