"""Plans within a time limit, on a clock that the test moves."""

import dataclasses

import pytest

from bertune.durations import Clock
from bertune.training.loop import budget as budgets
from bertune.training.loop.budget import TimeBudget
from bertune.training.loop.loop import fit
from bertune.training.loop.state import TrainConfig, TrainState
from tests.training import small_run

STEP, CHECK = 1.0, 5.0


class Simulated:
    """A run of a budget on a clock of its own: what `fit` asks of it, in its order."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        limit: float,
        steps: int,
        *,
        update: float,
        check: float,
        every: int = 20,
        checkpoint: tuple[int | None, float] = (None, 0.0),
    ) -> None:
        self.now, self.state, self.every = 0.0, TrainState(), every
        monkeypatch.setattr("bertune.durations.time.monotonic", lambda: self.now)
        self.budget = TimeBudget(Clock(limit, 0.0), update=update, evaluation=check, checkpoint=checkpoint[1])
        asked = dataclasses.replace(small_run.plan(steps), checkpoint_every=checkpoint[0])
        self.config = self.budget.plan(asked, self.state, every)
        self.plans = [self.config.steps]

    def run(self, seconds: float, check: float, until: int = 10**6, checkpoint: float = 0.0) -> float:
        """Go on to the plan's end, or to an update. Returns: the time then."""
        while self.state.step < min(self.config.steps, until):
            self.now += seconds
            self.state.step += 1
            self.follow(self.budget.after_update(self.config, self.state, seconds, self.every))
            if self.config.checkpoint_every and self.state.step % self.config.checkpoint_every == 0:
                self.now += checkpoint
                self.budget.after_checkpoint(checkpoint)
            if self.state.step % self.every == 0 or self.state.step == self.config.steps:
                self.now += check
                self.follow(self.budget.after_evaluation(self.config, self.state, check, self.every))
        return self.now

    def follow(self, config: TrainConfig) -> None:
        self.plans += [config.steps] if config.steps != self.plans[-1] else []
        self.config = config


def test_a_right_estimate_is_kept_to_and_the_schedule_ends_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Simulated(monkeypatch, 200, 1000, update=STEP, check=CHECK)
    assert 185 <= run.run(STEP, CHECK) <= 200
    assert run.config.schedule(run.config.steps - 1) < 0.02 * run.config.schedule.peak
    assert run.config.schedule.warmup == round(2 * run.config.steps / 1000)


@pytest.mark.parametrize("factor", [0.2, 0.5, 3.0])
def test_a_wrong_estimate_is_corrected(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Simulated(monkeypatch, 200, 1000, update=factor * STEP, check=factor * CHECK)
    assert 160 <= run.run(STEP, CHECK) <= 205


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_a_run_without_evaluations_is_corrected_halfway(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its machine changes after the first updates; it is evaluated at its end alone."""
    run = Simulated(monkeypatch, 200, 1000, update=STEP, check=CHECK, every=10_000)
    run.run(STEP, CHECK, until=12)
    before = run.config.steps
    assert 180 <= run.run(factor * STEP, CHECK) <= 200
    assert run.state.replanned_halfway
    assert run.config.steps > 1.3 * before if factor < 1 else run.config.steps < before


def test_an_evaluation_after_the_half_corrects_the_plan_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it takes was guessed to be ten times as long."""
    run = Simulated(monkeypatch, 200, 1000, update=STEP, check=10 * CHECK, every=80)
    assert 180 <= run.run(STEP, CHECK) <= 200
    assert run.state.replanned
    assert run.state.replanned_halfway


@pytest.mark.parametrize("guessed", [1.0, 10.0, 20.0])
def test_checkpoints_between_evaluations_are_planned(guessed: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tenth update is followed by one that takes as long as ten."""
    run = Simulated(monkeypatch, 400, 1000, update=STEP, check=CHECK, every=10_000, checkpoint=(10, guessed))
    assert 340 <= run.run(STEP, CHECK, checkpoint=10.0) <= 400
    assert run.config.schedule(run.config.steps - 1) < 0.02 * run.config.schedule.peak


def test_a_machine_that_becomes_slower_shortens_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Simulated(monkeypatch, 200, 1000, update=STEP, check=CHECK)
    run.run(STEP, CHECK, until=60)
    assert 180 <= run.run(3 * STEP, CHECK) <= 205
    assert run.plans[-1] < run.plans[0]


def test_what_fits_is_made_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Simulated(monkeypatch, 1000, 40, update=STEP, check=CHECK)
    assert run.run(STEP, CHECK) == 40 * STEP + 2 * CHECK
    assert run.config.steps == 40


def test_a_resumed_run_keeps_its_plan_and_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Simulated(monkeypatch, 200, 1000, update=STEP, check=CHECK)
    run.run(STEP, CHECK, until=50)
    run.state.wall_seconds, planned = run.now, run.config.steps
    again = TimeBudget(Clock(200, run.now), update=STEP, evaluation=CHECK)
    config = again.plan(small_run.plan(1000), run.state, 20)
    assert config.steps == planned
    assert again.left == pytest.approx(200 - run.now)


def test_the_loop_ends_with_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = small_run.parts(small_run.network(), small_run.features(64))
    parts = dataclasses.replace(parts, budget=TimeBudget(Clock(0.5), update=0.01, evaluation=0.0))
    monkeypatch.setattr(budgets, "_MEASURED", 3)
    state = fit(parts, small_run.plan(100_000), TrainState())
    assert 1 <= state.step == state.planned_steps < 100_000
    assert state.wall_seconds < 0.525
    assert not state.evaluation_due
