"""The adopted threshold is the best of all that could be applied."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertune.tasks.squad.metrics import evaluate, threshold_to_apply
from bertune.tasks.squad.reading import Answer, QuestionExample
from bertune.tasks.squad.thresholds import best_applied_threshold

SCORES = st.sampled_from([0.0, 0.25, 0.5, 1.0])
ROWS = st.lists(
    st.tuples(st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6)), SCORES, SCORES), min_size=1, max_size=9
)


def applied(threshold: float, odds: np.ndarray, answered: np.ndarray, unanswered: np.ndarray) -> float:
    """The mean score where questions with odds above the threshold are answered with nothing."""
    return float(np.where(odds > threshold, unanswered, answered).mean())


@given(ROWS)
def test_no_threshold_scores_better(rows: list[tuple[float, float, float]]) -> None:
    odds, answered, unanswered = np.array(rows).T
    threshold, score = best_applied_threshold(odds, answered, unanswered)
    assert score == pytest.approx(applied(threshold, odds, answered, unanswered))
    others = [-np.inf, np.inf, 0.0, *odds, *np.nextafter(odds, -np.inf)]
    assert score >= max(applied(other, odds, answered, unanswered) for other in others) - 1e-12


@pytest.mark.parametrize(
    ("odds", "answered", "unanswered", "threshold", "score"),
    [
        ([-1, -2], [0, 0], [0, 1], -3, 0.5),  # to answer nothing is best, below all odds; 0.0 would answer everything
        ([5, 7], [1, 1], [0, 0], 8, 1.0),  # to answer everything is, above 0
        ([1, 3], [1, 0], [0, 1], 2, 1.0),
        ([2, 2], [1, 0], [0, 1], 1, 0.5),  # equal odds cannot be told apart
        ([0], [0], [0], -1, 0.0),
    ],
)
def test_by_hand(
    odds: list[float], answered: list[float], unanswered: list[float], threshold: float, score: float
) -> None:
    found = best_applied_threshold(*(np.array(column, float) for column in (odds, answered, unanswered)))
    assert found == (threshold, score)


def test_the_official_figures_stay_as_reported() -> None:
    questions = [
        QuestionExample("a", "?", "x y", (Answer("x", 0),), False, None, ""),
        QuestionExample("b", "?", "x y", (), True, None, ""),
    ]
    odds, spans = {"a": -1.0, "b": -2.0}, {"a": "y", "b": "y"}
    found = evaluate(questions, {"a": "", "b": ""}, odds, spans)
    assert (found["best_f1"], found["best_f1_thresh"]) == (50.0, 0.0)
    threshold, f1 = threshold_to_apply(questions, odds, spans)
    assert (threshold, f1) == (-3.0, 50.0)
    at = {name: "" if odds[name] > threshold else spans[name] for name in odds}
    assert evaluate(questions, at)["f1"] == f1
    at_official = {name: "" if odds[name] > 0.0 else spans[name] for name in odds}
    assert evaluate(questions, at_official)["f1"] == 0.0
