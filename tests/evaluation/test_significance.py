"""Intervals and tests: against textbook formulas, and under no difference no more false alarms than promised."""

import math

import numpy as np
import numpy.typing as npt
import pytest

from bertune.evaluation.significance import bootstrap, bootstrap_p, interval, mcnemar, permutation_p
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.text_classification import TextClassification, TextExample

TASK = TextClassification(labels=("bad", "good"))


def outcomes(truth: npt.NDArray[np.bool_], *answers: npt.NDArray[np.bool_]) -> RowMetrics:
    """Of a classifier's answers, one after the other."""
    examples = [TextExample("", label=TASK.labels[int(one)]) for one in truth] * len(answers)
    return TASK.row_metrics(examples, [{"label": TASK.labels[int(one)]} for given in answers for one in given])


def test_the_interval_of_an_accuracy() -> None:
    chance = np.random.default_rng(0)
    truth = chance.random(400) < 0.5
    answer = truth ^ (chance.random(400) < 0.2)
    share = float((truth == answer).mean())
    (values,) = bootstrap([outcomes(truth, answer)], "accuracy", 2000, seed=1)
    low, high = interval(values)
    error = 1.96 * np.sqrt(share * (1 - share) / 400)
    assert (low, high) == pytest.approx((share - error, share + error), abs=0.006)
    assert values.mean() == pytest.approx(share, abs=0.003)


def test_the_seed_decides() -> None:
    truth = np.arange(50) % 2 == 0
    one = outcomes(truth, ~truth | (np.arange(50) < 20))
    draws = [bootstrap([one], "f1", 100, seed=seed) for seed in (1, 1, 2)]
    assert np.array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(("better", "expected"), [(0.0, "same"), (0.15, "differ")])
def test_tests_tell_a_difference_from_none(better: float, expected: str) -> None:
    chance = np.random.default_rng(4)
    truth = chance.random(600) < 0.4
    one = truth ^ (chance.random(600) < 0.3)
    other = truth ^ (chance.random(600) < 0.3 - better)
    parts = [outcomes(truth, one), outcomes(truth, other)]
    for metric in ("accuracy", "f1", "matthews_correlation"):
        values = bootstrap(parts, metric, 500, seed=0)
        found = [
            bootstrap_p(values[1] - values[0]),
            permutation_p(outcomes(truth, one, other), metric, 500, seed=0),
            mcnemar(truth == one, truth == other)[2],
        ]
        assert all(p > 0.05 if expected == "same" else p < 0.01 for p in found), (metric, found)


def test_a_model_beside_itself() -> None:
    truth = np.arange(40) % 3 == 0
    answer = truth ^ (np.arange(40) % 5 == 0)
    values = bootstrap([outcomes(truth, answer)] * 2, "f1", 200, seed=0)
    assert bootstrap_p(values[1] - values[0]) == 1
    assert permutation_p(outcomes(truth, answer, answer), "f1", 200, seed=0) == 1
    assert mcnemar(truth == answer, truth == answer) == (0, 0, 1.0)


def test_false_alarms_are_as_rare_as_promised() -> None:
    chance = np.random.default_rng(9)
    alarms = np.zeros(2)
    for _ in range(100):
        truth = chance.random(120) < 0.5
        one, other = (truth ^ (chance.random(120) < 0.25) for _ in range(2))
        values = bootstrap([outcomes(truth, one), outcomes(truth, other)], "accuracy", 200, seed=0)
        alarms += [
            bootstrap_p(values[1] - values[0]) < 0.05,
            permutation_p(outcomes(truth, one, other), "accuracy", 200, seed=0) < 0.05,
        ]
    assert (alarms <= 11).all(), alarms  # of 100; more than 11 where 5 are expected comes about in one of 200 cases


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 9), (12, 12), (30, 11)])
def test_mcnemar_is_the_binomial_test(first: int, second: int) -> None:
    one = np.array([True] * first + [False] * second + [True, False])
    other = np.array([False] * first + [True] * second + [True, False])
    total = first + second
    expected = min(1.0, 2 * sum(math.comb(total, i) for i in range(min(first, second) + 1)) / 2**total)
    found = mcnemar(one, other)
    assert found[:2] == (first, second)
    assert found[2] == pytest.approx(expected)


def test_a_wide_file_is_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = np.arange(300) % 2 == 0
    one = outcomes(truth, truth ^ (np.arange(300) % 7 == 0))
    whole = bootstrap([one], "accuracy", 100, seed=3)
    monkeypatch.setattr("bertune.evaluation.significance._AT_ONCE", 1000)
    assert np.array_equal(bootstrap([one], "accuracy", 100, seed=3), whole)
