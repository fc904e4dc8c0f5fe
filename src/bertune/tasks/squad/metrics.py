"""SQuAD's metrics: exact match and F1 of words, in per cent, as the official evaluation scripts (v1.1, v2.0) count.

Normalised English: lower case, no punctuation, no articles, single spaces. Where a gold answer holds Chinese or
Japanese characters there are no words to compare, so that answer and what is compared with it are cut as the CMRC 2018
script does: every such character by itself, other runs as words; all punctuation goes and articles stay. F1 is of bags
of these tokens, as for English; the CMRC script takes their longest common subsequence, which is never more.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from bertune.errors import InputError
from bertune.tasks.row_metrics import Floats, RowMetrics, ratio
from bertune.tasks.squad.reading import QuestionExample

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Han, kana (also small, half-width and iteration marks), bopomofo.
_CJK = (
    "\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f"
    "\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_HAS_CJK = re.compile(f"[{_CJK}]")
_MIXED = re.compile(f"[{_CJK}]|[^\\s{_CJK}]+")


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation (ASCII), articles (a, an, the) and superfluous white space; official."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def answer_tokens(text: str, by_characters: bool) -> list[str]:
    """What F1 compares: normalised words, or characters and words mixed (see above)."""
    if not by_characters:
        return normalize_answer(text).split()
    return _MIXED.findall("".join(char for char in text.lower() if not _is_punctuation(char)))


def needs_characters(gold: str) -> bool:
    """Whether a gold answer holds Chinese or Japanese characters."""
    return _HAS_CJK.search(gold) is not None


def exact_match(prediction: str, gold: str) -> float:
    """1.0 where both are the same after normalisation, else 0.0."""
    by_characters = needs_characters(gold)
    return float(answer_tokens(prediction, by_characters) == answer_tokens(gold, by_characters))


def f1(prediction: str, gold: str) -> float:
    """Harmonic mean of precision and recall of tokens, 0 to 1; where either has none, 1.0 if both have none."""
    by_characters = needs_characters(gold)
    predicted, wanted = answer_tokens(prediction, by_characters), answer_tokens(gold, by_characters)
    if not predicted or not wanted:
        return float(predicted == wanted)
    common = sum((Counter(predicted) & Counter(wanted)).values())
    if not common:
        return 0.0
    precision, recall = common / len(predicted), common / len(wanted)
    return 2 * precision * recall / (precision + recall)


def question_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 of one question, each the best over the gold answers.

    Golds that are nothing once normalised do not count, as in the v2.0 script; without any, "" is the right answer.
    """
    answers = [gold for gold in golds if answer_tokens(gold, needs_characters(gold))] or [""]
    return max(exact_match(prediction, gold) for gold in answers), max(f1(prediction, gold) for gold in answers)


def evaluate(
    examples: Sequence[QuestionExample],
    predictions: Mapping[str, str],
    null_odds: Mapping[str, float] | None = None,
    span_texts: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Metrics of a set of questions.

    Args:
        examples: labelled questions.
        predictions: answer by question id; "" is "no answer".
        null_odds: by question id, greater for rather unanswerable ones; they give the best_* keys.
        span_texts: for the best_* keys, the answers whatever the threshold. Without them `predictions` are used, as
            the official script does, which cannot bring back an answer that is "" already.

    Returns:
        exact_match, f1 (per cent), total; where there are unanswerable questions also HasAns_* and NoAns_* of the same;
        with null_odds best_exact, best_exact_thresh, best_f1, best_f1_thresh: the best that a null threshold can reach.

    Raises:
        InputError: no questions, or questions without a prediction or odds.
    """
    if not examples:
        raise InputError("there are no questions to evaluate")
    _check_ids(examples, predictions, "prediction")
    answerable = {example.id: _is_answerable(example) for example in examples}
    scores = {example.id: _scores(example, predictions) for example in examples}
    metrics = _means(list(scores.values()), "")
    if not all(answerable.values()):
        for prefix, kind in (("HasAns_", True), ("NoAns_", False)):
            part = [scores[name] for name, has_answer in answerable.items() if has_answer is kind]
            metrics |= _means(part, prefix) if part else {}
    if null_odds is not None:
        _check_ids(examples, null_odds, "null odds")
        texts = predictions if span_texts is None else span_texts
        _check_ids(examples, texts, "span text")
        raw = scores if span_texts is None else {example.id: _scores(example, texts) for example in examples}
        for key, column in (("best_exact", 0), ("best_f1", 1)):
            values = {name: pair[column] for name, pair in raw.items()}
            odds = {example.id: null_odds[example.id] for example in examples}
            metrics[key], metrics[f"{key}_thresh"] = find_best_threshold(texts, values, odds, answerable)
    return metrics


def question_rows(examples: Sequence[QuestionExample], answers: Sequence[str]) -> RowMetrics:
    """exact_match and f1 of questions, row by row; where some are unanswerable also HasAns_ and NoAns_ of the same.

    Args:
        examples: labelled questions.
        answers: one each; "" is "no answer".
    """
    answerable = np.array([_is_answerable(example) for example in examples], np.bool_)
    pairs = zip(examples, answers, strict=True)
    scores = 100 * np.array([_scores(example, {example.id: answer}) for example, answer in pairs]).reshape(-1, 2)
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


def _scores(example: QuestionExample, predictions: Mapping[str, str]) -> tuple[float, float]:
    golds = [answer.text for answer in example.answers] if _is_answerable(example) else []
    return question_scores(predictions[example.id], golds)


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


@lru_cache(maxsize=1 << 14)
def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")
