"""The winner of a sweep, trained again with seeds that no trial has seen; the best of its models is the sweep's."""

import logging
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bertune.errors import FaultError, InputError
from bertune.sweep import journal
from bertune.sweep.results import SweepResult, Times, write_results
from bertune.sweep.state import TRIALS, Sweep
from bertune.sweep.trials import worked
from bertune.training.loop.signals import raise_if_requested
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.report import finished
from bertune.training.runs.seeds import Seeds, put_on_top, run_seeds

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

_LATE = 1.03
"""Of the time limit: what still runs then is stopped."""
_TRIED = 0.9
"""Share of the time that a run should take which must be left of the limit for it to be begun: predictions err, and
what is stopped had time that nothing else would use."""


@dataclass(frozen=True)
class _Repeated:
    """A run of the winner, as `runs.seeds` wants it. worked: seconds from its first update on."""

    metrics: dict[str, float]
    steps: int
    worked: float


def finish(sweep: Sweep) -> SweepResult:
    """Train the winner on fresh seeds while the time lasts; its best model comes to the top of the folder.

    Raises:
        InputError: no trial brought a value.
    """
    world = sweep.world
    world.wait()  # until the last trial has ended
    best = sweep.best
    if best is None:
        failed = [trial.user_attrs.get("reason", "") for trial in journal.made(sweep.study)]
        raise InputError(f"no trial of {len(failed)} brought a value; the last: {failed[-1] if failed else 'none ran'}")
    done: dict[int, _Repeated] = {}
    for of_rank in world.gather(_repeat(sweep, best)):
        done |= of_rank
    seeds = None
    if done:
        seeds = run_seeds(
            sweep.folder, tuple(sorted(done)), sweep.metric, lambda seed, folder, resume: done[seed], resume=False  # noqa: ARG005
        )  # fmt: skip
    times = Times(sweep.elapsed, sweep.options.seconds, sum(one.worked for one in done.values()), world.size)
    result = SweepResult.of(sweep.study, sweep.metric, best, seeds, times)
    if world.is_first:
        _write(sweep, best, seeds, result)
    world.wait()
    return result


def _repeat(sweep: Sweep, best: "FrozenTrial") -> dict[int, _Repeated]:
    """This rank's share of the winner's runs, by seed."""
    first = sweep.options.seed + 1_000  # no trial's own, unless the space varies seeds that far
    seeds, done = range(first, first + sweep.options.final_seeds), dict[int, _Repeated]()
    expected = sweep.repetition(best)
    for seed in seeds[sweep.world.rank :: sweep.world.size]:
        raise_if_requested()
        left = sweep.options.seconds - sweep.elapsed
        folder = sweep.folder / f"seed-{seed}"
        if sweep.options.resume and (before := finished(folder)) is not None:
            done[seed] = _Repeated(before[0], int(before[1].get("steps", 0)), worked(folder))
            continue
        if left < _TRIED * expected:
            break
        found = sweep.trials.run({**best.params, "seed": seed}, folder, sweep.began + sweep.options.seconds * _LATE)
        journal.keep_elapsed(sweep.study, sweep.elapsed)
        if found.ended != "done":
            logger.warning("seed %d: %s", seed, found.error if found.ended == "failed" else "the time was over")
            shutil.rmtree(folder, ignore_errors=True)
            break
        expected = found.seconds
        done[seed] = _Repeated(found.metrics, found.steps, found.worked)
        logger.info("winner, seed %d: %s %.4f", seed, sweep.metric, found.metrics[sweep.metric])
    return done


def _write(sweep: Sweep, best: "FrozenTrial", seeds: Seeds | None, result: SweepResult) -> None:
    """Leave in the folder the best model and what was found, and nothing of the other trials.

    Raises:
        FaultError: the best trial's model is gone, and no run with a fresh seed takes its place; the disk is full.
    """
    if seeds is None:
        logger.warning("no time was left to repeat the winner: its figure may be luck; the trial's own model is kept")
        winner = sweep.folder / TRIALS / f"{best.number:04d}"
        if not winner.is_dir():
            raise FaultError(f"{winner}: the best trial's model is gone; train it with the settings in {journal.FILE}")
        with disk_errors(sweep.folder, 0):
            put_on_top(sweep.folder, winner)
            shutil.copyfile(winner / "metrics.json", sweep.folder / "metrics.json")  # `put_on_top` leaves it behind
    shutil.rmtree(sweep.folder / TRIALS, ignore_errors=True)
    write_results(sweep.folder, result, sweep.trials.train_options(best.params, sweep.folder))
