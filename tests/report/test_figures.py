"""Figures of a report against their definitions."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, precision_recall_fscore_support

from bertune.report import figures


def test_scores_that_tell_the_truth_have_no_calibration_error() -> None:
    confidence = np.array([0.9] * 10 + [0.5] * 10)
    correct = np.array([True] * 9 + [False] + [True] * 5 + [False] * 5)
    assert figures.reliability(confidence, correct)["ece"] == pytest.approx(0)


def test_the_calibration_error_is_the_weighted_distance() -> None:
    confidence, correct = np.array([0.95, 0.95, 0.62, 1.0]), np.array([True, False, False, True])
    found = figures.reliability(confidence, correct)
    assert found["ece"] == pytest.approx(0.75 * abs((0.95 + 0.95 + 1.0) / 3 - 2 / 3) + 0.25 * 0.62)
    assert [one["rows"] for one in found["bins"]] == [1, 3]


def test_coverage_cuts_between_unequal_scores_alone() -> None:
    found = figures.coverage(np.array([0.9, 0.9, 0.8, 0.7]), np.array([True, False, True, True]))
    assert found["curve"] == [
        {"share": 0.5, "accuracy": 0.5},
        {"share": 0.75, "accuracy": pytest.approx(2 / 3)},
        {"share": 1.0, "accuracy": 0.75},
    ]
    assert found["automate"]["0.95"] is None


def test_the_largest_share_with_an_accuracy() -> None:
    correct = np.array([True] * 20 + [False, True])
    found = figures.coverage(np.linspace(0.99, 0.5, 22), correct)
    assert found["automate"]["0.95"]["share"] == 1.0  # 21 of 22 are right
    assert found["automate"]["0.99"]["share"] == pytest.approx(20 / 22)


def test_brier_is_scikit_learns() -> None:
    p = np.random.default_rng(0).dirichlet([1, 1], 50)
    truth = np.arange(50) % 2
    assert figures.brier(p, truth) == pytest.approx(2 * brier_score_loss(truth, p[:, 1]))


def test_classes_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    names = ["a", "b", "c"]
    truth, answers = [names[i] for i in rng.integers(0, 3, 60)], [names[i] for i in rng.integers(0, 3, 60)]
    found = {one["label"]: one for one in figures.per_class(truth, answers, names)}
    right = precision_recall_fscore_support(truth, answers, labels=names)
    for index, name in enumerate(names):
        assert found[name]["precision"] == pytest.approx(right[0][index])
        assert found[name]["recall"] == pytest.approx(right[1][index])
        assert found[name]["f1"] == pytest.approx(right[2][index])
        assert found[name]["rows"] == right[3][index]
        low, high = found[name]["recall_interval"]
        assert low < found[name]["recall"] < high


def test_sets_of_labels_are_counted_a_label() -> None:
    found = figures.per_class([frozenset("ab"), frozenset()], [frozenset("a"), frozenset("b")], ["a", "b"])
    assert [(one["label"], one["rows"], one["precision"], one["recall"]) for one in found] == [
        ("a", 1, 1.0, 1.0),
        ("b", 1, 0.0, 0.0),
    ]


def test_planted_label_errors_are_found_first() -> None:
    """5 % of labels flipped; the model is right on 97 rows of 100 and more, and as sure where it is wrong."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 2000)
    sure = rng.dirichlet([1, 1, 1], 2000) * 0.4
    sure[np.arange(2000), np.where(rng.random(2000) < 0.97, truth, rng.integers(0, 3, 2000))] += 0.6
    planted = rng.choice(2000, 100, replace=False)
    given = truth.copy()
    given[planted] = (truth[planted] + 1) % 3
    first = figures.doubtful_labels(sure, given)[:100]
    assert np.isin(first, planted).mean() >= 0.6


def test_judges_that_err_on_other_rows_find_more_together() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 2000)
    given = truth.copy()
    planted = rng.choice(2000, 100, replace=False)
    given[planted] = (truth[planted] + 1) % 3

    def judge() -> np.ndarray[Any, Any]:
        """Right on three rows of four, and as sure of the others."""
        found = rng.dirichlet([1, 1, 1], 2000) * 0.5
        found[np.arange(2000), np.where(rng.random(2000) < 0.75, truth, rng.integers(0, 3, 2000))] += 0.5
        return found

    judges = [judge(), judge(), judge()]
    alone, together = (
        np.isin(figures.doubtful_labels(one, given)[:100], planted).mean()
        for one in (judges[0], figures.combined(judges))
    )
    assert together > alone + 0.2
    assert figures.combined(judges).sum(1) == pytest.approx(np.ones(2000))


def test_how_many_labels_are_wrong_is_read_off_the_confident_joint() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10 + [[0.1, 0.9]] * 11 + [[0.45, 0.55]])
    given = np.array([0] * 10 + [1] * 9 + [0, 0, 0])
    assert figures.expected_label_errors(probabilities, given) == 2
    assert figures.doubtful_labels(probabilities, given).tolist() == [19, 20, 21]


def test_slices_are_tested_and_corrected() -> None:
    inside = np.arange(200) < 100
    correct = np.where(inside, np.arange(200) % 10 < 5, np.arange(200) % 10 < 9)
    groups = {"bad": inside, "even": np.arange(200) % 2 == 0, "tiny": np.arange(200) < 5}
    found = {one["slice"]: one for one in figures.slices(groups, correct)}
    assert set(found) == {"bad", "even"}
    assert found["bad"]["difference"] == pytest.approx(-0.4)
    assert found["bad"]["p_corrected"] == pytest.approx(2 * found["bad"]["p"])
    assert found["bad"]["p_corrected"] < 1e-6 < found["even"]["p_corrected"]


def test_kinds_of_entity_errors() -> None:
    truth = [frozenset({("PER", 0, 4), ("LOC", 10, 14), ("ORG", 20, 24), ("PER", 30, 34), ("LOC", 40, 44)})]
    answers = [frozenset({("PER", 0, 4), ("LOC", 10, 13), ("PER", 20, 24), ("ORG", 31, 36), ("LOC", 50, 54)})]
    assert figures.entity_errors(truth, answers) == {
        "right": 1, "boundary": 1, "type": 1, "both": 1, "missed": 1, "spurious": 1,
    }  # fmt: skip
