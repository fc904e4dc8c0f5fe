"""Metrics: cases worked out by hand, and a second, plain implementation on random texts."""

import json
import random
import string
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import pytest

from bertune.errors import InputError
from bertune.tasks.squad.answer_metrics import SQUAD, answer_metric, squad_normal
from bertune.tasks.squad.metrics import (
    evaluate,
    find_best_threshold,
)
from bertune.tasks.squad.reading import Answer, QuestionExample, read_questions


def labelled(name: str, *golds: str) -> QuestionExample:
    return QuestionExample(name, "?", "-", tuple(Answer(gold, 0) for gold in golds), not golds, None, "")


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Lions", "lions"),
        ("an apple a day", "apple day"),
        ("Theatre an", "theatre"),
        ("U.S.A.", "usa"),
        ("3.5%", "35"),
        ("the-end", "theend"),  # the hyphen goes first, so no article is left
        ("l’an", "l’"),  # a curly apostrophe is not ASCII punctuation
        ("a.", ""),
        ("\tthe\n", ""),
        ("", ""),
    ],
)
def test_normalisation(text: str, normal: str) -> None:
    assert squad_normal(text) == normal


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "overlap"),
    [
        ("the Lions", ["Lions!"], 1.0, 1.0),
        ("Denver Broncos", ["Broncos"], 0.0, 2 / 3),
        ("Broncos", ["Denver Broncos", "the Broncos"], 1.0, 1.0),
        ("a b c c", ["c c d"], 0.0, 2 / 3),  # "a" is an article: {b, c, c} and {c, c, d} share two
        ("won won", ["won"], 0.0, 2 / 3),
        ("Paris", ["London"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("Paris", [], 0.0, 0.0),
        ("", ["Paris"], 0.0, 0.0),
        ("the", ["Paris"], 0.0, 0.0),
        ("the", [], 1.0, 1.0),
        ("", ["the", "a"], 1.0, 1.0),  # golds that are nothing once normalised
        ("Paris", ["the", "Paris"], 1.0, 1.0),
        ("", ["the", "Paris"], 0.0, 0.0),
        ("2018年", ["2018"], 0.0, 0.0),  # in a file of English contexts
    ],
)
def test_one_question(prediction: str, golds: list[str], exact: float, overlap: float) -> None:
    assert SQUAD.scores(prediction, golds) == pytest.approx((exact, overlap))


@pytest.mark.parametrize(
    ("prediction", "golds", "exact", "overlap"),
    [
        ("踢爆。", ["踢爆"], 1.0, 1.0),
        ("《水枪》", ["水枪"], 1.0, 1.0),
        ("4 分钟内", ["4分钟"], 0.0, 6 / 7),  # 4 分 钟 内 and 4 分 钟: 3/4 and 3/3
        ("A队", ["A 队"], 1.0, 1.0),  # no article here
        ("队", ["A 队"], 0.0, 2 / 3),
        ("枪水", ["水枪"], 0.0, 1.0),  # bags of characters know no order
        ("ひらがなで", ["ひらがな"], 0.0, 8 / 9),
        ("New York", ["New York 市"], 0.0, 0.8),
    ],
)
def test_by_characters(prediction: str, golds: list[str], exact: float, overlap: float) -> None:
    assert answer_metric("characters").scores(prediction, golds) == pytest.approx((exact, overlap))


def test_mixed_segmentation() -> None:
    text = "在New York, 住了3.5年，ＯＫ！"
    assert answer_metric("characters").tokens(text) == ["在", "new", "york", "住", "了", "35", "年", "ｏｋ"]


def plain_scores(prediction: str, golds: list[str]) -> tuple[float, float]:
    """English scores, written down once more from the rules."""

    def words(text: str) -> list[str]:
        kept = "".join(char for char in text.lower() if char not in string.punctuation)
        runs = ["".join(run) for _, run in groupby(kept, key=lambda char: char.isalnum() or char == "_")]
        return "".join(" " if run in {"a", "an", "the"} else run for run in runs).split()

    def overlap(one: list[str], other: list[str]) -> float:
        if not one or not other:
            return float(one == other)
        rest, common = list(other), 0
        for word in one:
            if word in rest:
                rest.remove(word)
                common += 1
        return 2 * common / (len(one) + len(other))

    wanted = [words(gold) for gold in golds if words(gold)] or [[]]
    return float(words(prediction) in wanted), max(overlap(words(prediction), gold) for gold in wanted)


def test_equals_a_plain_implementation_on_random_texts() -> None:
    rng = random.Random(7)
    units = [
        "a",
        "an",
        "The",
        "team",
        "Team,",
        "won",
        "won.",
        "U.S.",
        "'",
        "x9",
        "--",
        "Éé",
        "_",
        "5–3",
        "the–end",
        "–a–",
    ]
    seen = set()
    for _ in range(3000):
        prediction = " ".join(rng.choices(units, k=rng.randint(0, 5)))
        golds = [" ".join(rng.choices(units, k=rng.randint(1, 5))) for _ in range(rng.randint(0, 3))]
        expected = plain_scores(prediction, golds)
        assert SQUAD.scores(prediction, golds) == pytest.approx(expected), (prediction, golds)
        seen.add(expected[0])
    assert seen == {0.0, 1.0}


EXAMPLES = [labelled("a", "Lions"), labelled("b", "Denver Broncos"), labelled("c"), labelled("d")]
PREDICTIONS = {"a": "the lions", "b": "Broncos", "c": "", "d": "Paris"}


def test_metrics_of_a_set() -> None:
    assert evaluate(EXAMPLES, PREDICTIONS) == {
        "exact_match": 50.0,
        "f1": pytest.approx(100 * (1 + 2 / 3 + 1) / 4),
        "total": 4,
        "HasAns_exact_match": 50.0,
        "HasAns_f1": pytest.approx(100 * (1 + 2 / 3) / 2),
        "HasAns_total": 2,
        "NoAns_exact_match": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2,
    }


def test_a_set_without_unanswerable_questions_has_no_parts() -> None:
    assert list(evaluate(EXAMPLES[:2], PREDICTIONS)) == ["exact_match", "f1", "total"]


def test_a_set_without_answerable_questions_has_one_part() -> None:
    metrics = evaluate(EXAMPLES[2:], PREDICTIONS)
    assert metrics["NoAns_total"] == 2
    assert "HasAns_total" not in metrics


def test_best_thresholds() -> None:
    """In the order of odds a, b, d, c: exact 2 at first, then 3, 3, 2, 2; F1 2, then 3, 3 2/3, 2 2/3, 2 2/3."""
    odds = {"a": -4.0, "b": -3.0, "c": 2.5, "d": -1.5}
    metrics = evaluate(EXAMPLES, PREDICTIONS, odds)
    assert {name: value for name, value in metrics.items() if name.startswith("best")} == {
        "best_exact": 75.0,
        "best_exact_thresh": -4.0,
        "best_f1": pytest.approx(100 * 11 / 12),
        "best_f1_thresh": -3.0,
    }


def test_span_texts_let_the_threshold_bring_back_answers() -> None:
    predictions = dict.fromkeys("abcd", "")
    spans = {"a": "Lions", "b": "Denver Broncos", "c": "x", "d": "y"}
    odds = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert evaluate(EXAMPLES, predictions, odds)["best_exact"] == 50.0
    metrics = evaluate(EXAMPLES, predictions, odds, spans)
    assert (metrics["exact_match"], metrics["best_exact"], metrics["best_exact_thresh"]) == (50.0, 100.0, 2.0)


def best_by_trying(
    texts: Mapping[str, str], scores: Mapping[str, float], odds: Mapping[str, float], answerable: Mapping[str, bool]
) -> float:
    """The best mean over all thresholds, each applied to every question."""

    def mean(threshold: float) -> float:
        values = [
            (scores[n] if answerable[n] else float(not texts[n])) if odds[n] <= threshold else float(not answerable[n])
            for n in odds
        ]
        return 100.0 * sum(values) / len(values)

    return max(mean(threshold) for threshold in [-1e9, *odds.values()])


def test_the_best_threshold_is_the_best_of_all() -> None:
    rng = random.Random(3)
    for _ in range(200):
        names = [str(number) for number in range(rng.randint(1, 12))]
        odds = {name: float(value) for name, value in zip(names, rng.sample(range(-50, 50), len(names)), strict=True)}
        answerable = {name: rng.random() < 0.5 for name in names}
        texts = {name: rng.choice(["", "x"]) for name in names}
        scores = {name: rng.choice([0.0, 0.25, 1.0]) if answerable[name] else float(not texts[name]) for name in names}
        best, threshold = find_best_threshold(texts, scores, odds, answerable)
        assert best == pytest.approx(best_by_trying(texts, scores, odds, answerable))
        assert threshold in {0.0, *odds.values()}


def test_missing_predictions_are_named() -> None:
    with pytest.raises(InputError, match="2 of 4 questions have no prediction: 'b', 'd'"):
        evaluate(EXAMPLES, {"a": "", "c": ""})
    with pytest.raises(InputError, match="3 of 4 questions have no null odds"):
        evaluate(EXAMPLES, PREDICTIONS, {"a": 1.0})
    with pytest.raises(InputError, match="no questions"):
        evaluate([], {})


def test_symmetry_of_perfect_answers() -> None:
    assert SQUAD.scores("Éa", ["éA"]) == (1.0, 1.0)


def test_real_squad(shared: Path) -> None:
    """Gold answers are perfect; recorded predictions score as the plain implementation says."""
    examples, _ = read_questions(shared / "data/squad/dev-v2.0.json", labelled=True)
    perfect = evaluate(examples, {e.id: e.answers[-1].text if e.answers else "" for e in examples})
    assert perfect["exact_match"] == perfect["f1"] == 100.0
    assert (perfect["HasAns_total"], perfect["NoAns_total"]) == (601, 598)
    folder = shared / "golden/squad"
    examples, _ = read_questions(folder / "v2.json", labelled=True)
    predictions = json.loads((folder / "v2.eval.len384.stride128.query64.predictions.json").read_text())
    scores = [plain_scores(predictions[e.id], [answer.text for answer in e.answers]) for e in examples]
    metrics = evaluate(examples, predictions)
    assert metrics["exact_match"] == pytest.approx(100 * sum(score[0] for score in scores) / len(scores))
    assert metrics["f1"] == pytest.approx(100 * sum(score[1] for score in scores) / len(scores))
