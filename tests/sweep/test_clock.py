"""Predicted times, and which trials may be compared before their end."""

import pytest

from bertune.sweep.clock import TimeModel, behind, comparable


def speeds(rate: float, seconds: float) -> dict[str, float]:
    return {"train_examples_per_second": rate, "eval_examples_per_second": 50.0, "train_seconds": seconds}


def test_a_prediction_is_the_fixed_part_and_the_epochs() -> None:
    clock = TimeModel(rows=1000, evaluated=100)
    clock.observe(speeds(100.0, seconds=2.0), wall=5.0, evaluations=1)  # 5 = 2 + 1 * 100/50 + 1 of start
    assert clock.predict(3) == pytest.approx(1 + 3 * 1000 / 100 + 3 * 2)
    assert clock.predict(3, passes=2) == pytest.approx(1 + 2 * 3 * 1000 / 100 + 3 * 2)


def test_a_whole_run_replaces_the_probe() -> None:
    clock = TimeModel(rows=1000, evaluated=100)
    clock.observe(speeds(10.0, seconds=2.0), wall=3.0, evaluations=0)
    clock.observe(speeds(100.0, seconds=30.0), wall=37.0, evaluations=3)
    assert clock.predict(1) == pytest.approx(1 + 10 + 2)
    clock.observe(speeds(300.0, seconds=30.0), wall=37.0, evaluations=3)
    assert clock.rates == [100.0, 300.0]  # the first run's figures stay


def test_runs_that_take_longer_than_predicted_ask_for_more_spare_time() -> None:
    clock = TimeModel(rows=1000, evaluated=100)
    assert clock.spare == 1.1
    clock.missed += [0.9, 1.3, 1.0]
    assert clock.spare == 1.3
    clock.missed += [1.0, 1.0]
    assert clock.spare == 1.1
    clock.missed.append(7.0)  # the machine stood still once: not the rest of the sweep's time for that
    assert clock.spare == 1.5


def test_only_trials_of_the_same_schedule_are_compared() -> None:
    one = {"encoder": "a", "epochs": 3.0, "learning_rate": 1e-5}
    assert comparable(one, {**one, "learning_rate": 1e-4})
    assert not comparable(one, {**one, "epochs": 5.0})
    assert not comparable(one, {**one, "encoder": "b"})


def test_a_trial_behind_the_median_is_stopped() -> None:
    others = [[0.5, 0.6, 0.7]] * 2 + [[0.7, 0.8, 0.9]] * 2
    assert behind([0.59], others, lower=False)
    assert not behind([0.61], others, lower=False)
    assert behind([0.61], others, lower=True)


def test_three_trials_are_too_few_and_the_last_evaluation_is_not_judged() -> None:
    others = [[0.9, 0.9]] * 3
    assert not behind([0.1], others, lower=False)
    assert not behind([0.1, 0.1], [*others, [0.9, 0.9]], lower=False)
    assert not behind([], [[0.9, 0.9]] * 4, lower=False)
