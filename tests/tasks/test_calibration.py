"""Temperatures against their definition: the least cross-entropy, orders unchanged, judged on other rows."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from bertune.tasks.calibration import (
    LEAST_ROWS,
    CalibrationRows,
    calibration_errors,
    cross_fitted,
    fit_temperatures,
    useful_temperatures,
)
from bertune.tasks.reliability import automatic_from, coverage_curve


def overconfident(rows: int, factor: float, classes: int = 3) -> CalibrationRows:
    """Labels drawn from probabilities whose logits are then multiplied by a factor."""
    rng = np.random.default_rng(rows)
    logits = rng.normal(0, 1.5, (rows, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    truth = np.array([rng.choice(classes, p=row) for row in p])
    return CalibrationRows(logits * factor, truth)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_factor_that_made_scores_too_sure(factor: float) -> None:
    found = fit_temperatures(overconfident(20_000, factor))
    assert found is not None
    assert found == pytest.approx([factor], rel=0.05)


def candidates(rows: int, factor: float) -> CalibrationRows:
    """Answers that are right as often as their probability says, among candidates; the second best is given at times.

    A row in three has one candidate less, as questions of short contexts have.
    """
    rng = np.random.default_rng(rows)
    logits = rng.normal(0, 2.0, (rows, 5))
    logits[::3, 4] = -np.inf
    chosen = np.where(rng.random(rows) < 0.2, np.argsort(-logits, 1)[:, 1], logits.argmax(1))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right = rng.random(rows) < p[np.arange(rows), chosen]
    return CalibrationRows(logits * factor, right, chosen)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_answers_among_candidates_are_right_as_often_as_scores_say(factor: float) -> None:
    rows = candidates(20_000, factor)
    found = fit_temperatures(rows)
    assert found is not None
    assert found == pytest.approx([factor], rel=0.07)
    after = calibration_errors(rows, rows.probabilities(found))
    assert after.ece < 0.02
    if factor != 1:
        before = calibration_errors(rows, rows.probabilities())
        assert after.ece < before.ece
        assert after.brier < before.brier


def test_candidates_that_are_no_answer_still_share_the_probability() -> None:
    rows = CalibrationRows(np.array([[2.0, 0.0, -np.inf]]), np.array([True]), np.array([1]))
    confidence, right = rows.confidence(rows.probabilities())
    assert confidence == pytest.approx([1 / (1 + np.exp(2))])
    assert right.tolist() == [True]


def test_answers_without_a_rival_do_not_hinder() -> None:
    """A question with one candidate has probability 1 at every temperature."""
    rows = CalibrationRows(np.zeros((60, 1)), np.arange(60) % 2 == 0, np.zeros(60, np.int64))
    found = fit_temperatures(rows)
    assert found is not None
    assert np.isfinite(found).all()


def test_it_is_where_the_cross_entropy_is_least() -> None:
    rows = overconfident(300, 2.0)
    target = np.full(rows.logits.shape, 1 / 302 / 2)
    target[np.arange(300), rows.truth] = 301 / 302

    def cross_entropy(temperature: float) -> float:
        return float(-(target * np.log(rows.probabilities(np.array([temperature])))).sum())

    least = minimize_scalar(cross_entropy, bounds=(0.2, 10), method="bounded", options={"xatol": 1e-8}).x
    assert fit_temperatures(rows) == pytest.approx([least], rel=1e-4)


def test_no_answer_changes() -> None:
    rows = overconfident(500, 3.0)
    scaled = rows.probabilities(fit_temperatures(rows))
    assert (scaled.argmax(1) == rows.logits.argmax(1)).all()


def test_rows_that_are_all_right_do_not_ask_for_certainty() -> None:
    logits = np.tile([4.0, 0.0], (200, 1))
    rows = CalibrationRows(logits, np.zeros(200, np.int64))
    scaled = rows.probabilities(fit_temperatures(rows))
    assert scaled[0, 0] == pytest.approx(201 / 202, abs=1e-6)


def test_few_rows_say_nothing() -> None:
    assert fit_temperatures(overconfident(LEAST_ROWS - 1, 2.0)) is None
    assert cross_fitted(overconfident(LEAST_ROWS - 1, 2.0)) is None
    assert useful_temperatures(overconfident(LEAST_ROWS - 1, 2.0)) is None


def test_every_label_has_its_own_and_rare_ones_none() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (20_000, 3))
    truth = rng.random((20_000, 3)) < 1 / (1 + np.exp(-logits))
    truth[:, 2] = False
    truth[:9, 2] = True
    rows = CalibrationRows(logits * np.array([3.0, 0.6, 2.0]), truth)
    found = fit_temperatures(rows)
    assert found is not None
    assert found[:2] == pytest.approx([3.0, 0.6], rel=0.05)
    assert found[2] == 1.0
    assert ((rows.probabilities(found) > 0.5) == (rows.logits > 0)).all()


def test_questions_with_fewer_choices() -> None:
    rows = overconfident(4_000, 2.0, classes=4)
    logits = rows.logits.copy()
    absent = (np.arange(4_000) % 2 == 0) & (rows.truth != 3)
    logits[absent, 3] = -np.inf
    some = CalibrationRows(logits, rows.truth)
    found = fit_temperatures(some)
    assert found is not None
    assert 1.6 < found[0] < 2.4
    assert some.probabilities(found)[absent, 3].max() == 0


def test_scaling_lowers_the_errors_of_rows_it_was_not_fitted_to() -> None:
    rows = overconfident(3_000, 2.5)
    after = cross_fitted(rows)
    assert after is not None
    raw, scaled = calibration_errors(rows, rows.probabilities()), calibration_errors(rows, after)
    assert scaled.ece < raw.ece / 3
    assert scaled.brier < raw.brier


def test_a_rows_own_label_has_no_say_in_its_score() -> None:
    rows = overconfident(200, 2.5)
    before = cross_fitted(rows)
    changed = rows.truth.copy()
    changed[7] = (changed[7] + 1) % 3
    after = cross_fitted(CalibrationRows(rows.logits, changed))
    assert before is not None
    assert after is not None
    assert after[7] == pytest.approx(before[7])
    assert not np.allclose(after[8], before[8])


def test_the_score_from_which_on_answers_are_right_so_often() -> None:
    correct = np.array([True] * 20 + [False, True, False, False])
    scores = np.linspace(0.99, 0.53, 24)
    curve = coverage_curve(scores, correct)
    assert automatic_from(curve, 0.95) == pytest.approx((scores[21] + scores[22]) / 2)
    assert automatic_from(curve, 1.0) == pytest.approx((scores[19] + scores[20]) / 2)
    assert automatic_from(curve, 0.8) == 0
    assert automatic_from(coverage_curve(np.array([0.9, 0.8]), np.array([False, True])), 0.9) is None


def test_thousands_of_outputs_are_fitted_on_rows_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = overconfident(2_000, 2.0)
    whole = fit_temperatures(rows)
    highest, answers = rows.surest()
    assert (highest == rows.probabilities().max(1)).all()
    assert (answers == rows.logits.argmax(1)).all()
    monkeypatch.setattr("bertune.tasks.calibration.MOST_NUMBERS", 3_000)
    monkeypatch.setattr("bertune.tasks.calibration._AT_ONCE", 30)
    assert len(rows.thinned().logits) == 1_000
    assert fit_temperatures(rows) == pytest.approx(whole, rel=0.1)
    assert rows.probabilities() == pytest.approx(rows.probabilities(np.ones(1)), rel=1e-6)
    assert rows.surest()[0] == pytest.approx(highest, rel=1e-6)


def test_a_label_with_few_rows_of_a_kind_keeps_its_probabilities() -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (400, 2))
    truth = rng.random((400, 2)) < 1 / (1 + np.exp(-logits / 3))
    truth[:, 1] = np.arange(400) < 9
    found = fit_temperatures(CalibrationRows(logits.astype(np.float32), truth))
    assert found is not None
    assert found[0] == pytest.approx(3, rel=0.3)
    assert found[1] == 1


def test_a_temperature_that_is_chance_is_left_out() -> None:
    """Of scores that are right as they are: whatever few rows suggest, other rows are no better predicted by it."""
    kept = 0
    for seed in range(40):
        rows = overconfident(100 + seed, 1.0)
        found = useful_temperatures(rows)
        assert found is not None
        kept += int((found == 1).all())
    assert kept >= 28  # a fair share of samples cannot tell


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_temperature_that_helps_is_used(factor: float) -> None:
    rows = overconfident(1_000, factor)
    assert useful_temperatures(rows) == pytest.approx(fit_temperatures(rows))
    some = candidates(1_000, factor)
    assert useful_temperatures(some) == pytest.approx(fit_temperatures(some))


def test_every_label_is_judged_by_itself() -> None:
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 2, (600, 6))
    truth = rng.random((600, 6)) < 1 / (1 + np.exp(-logits))
    found = useful_temperatures(CalibrationRows(logits * np.array([3.0, 1, 1, 1, 1, 1]), truth))
    assert found is not None
    assert found[0] == pytest.approx(3, rel=0.3)
    assert (found[1:] == 1).any()
