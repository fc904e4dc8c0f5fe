"""A sweep from options to its best model: a probe, trials while time lasts, the winner again on fresh seeds.

Half of the result is honesty: the best of many trials is partly luck, so the winner is trained again with seeds that no
trial has seen, and its mean stands beside the figure that won.
"""

import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.checkpoints.source import open_checkpoint
from bertune.durations import duration
from bertune.errors import FaultError, InputError, Problems
from bertune.files.yaml_files import read_yaml, write_yaml
from bertune.sweep import journal
from bertune.sweep.clock import SPARE, TimeModel, behind, comparable
from bertune.sweep.options import SweepOptions
from bertune.sweep.results import SweepResult, Times, write_results
from bertune.sweep.space import Space, default_space, passes, read_space, starting_points
from bertune.sweep.trials import TrialResult, Trials, worked
from bertune.tasks.protocol import lower_is_better
from bertune.tasks.registry import new_task
from bertune.training.loop.signals import raise_if_requested
from bertune.training.run_folder.errors import disk_errors, run_errors
from bertune.training.run_folder.output import output_problems
from bertune.training.run_folder.report import finished
from bertune.training.runs.seeds import put_on_top, run_seeds

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial

logger = logging.getLogger(__name__)

SWEEP, TRIALS = "sweep.yaml", "trials"
_MAY_CHANGE = frozenset({"output", "time_limit", "trials", "feature_cache"})
"""Options that a sweep may go on with as others: more time, more trials."""
_ASKED_IN_VAIN = 20
"""Suggestions in a row that do not fit into the time, after which no more are asked for."""
_LATE = 1.03
"""Of the time limit: what still runs then is stopped."""


@dataclass
class Sweep:
    """A sweep at work.

    began: of `time.monotonic`, earlier sessions counted in.
    clocks: by encoder.
    """

    options: SweepOptions
    trials: Trials
    study: "Study"
    metric: str
    space: Space
    began: float
    clocks: dict[str, TimeModel] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Of the sweep."""
        return Path(self.options.output)

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self.began

    @property
    def lower(self) -> bool:
        """Whether a lower metric is better."""
        return lower_is_better(self.metric)

    @property
    def best(self) -> "FrozenTrial | None":
        """The trial with the best value."""
        found = [trial for trial in journal.finished_trials(self.study) if math.isfinite(trial.value or math.nan)]
        if not found:
            return None
        return (min if self.lower else max)(found, key=lambda trial: float(trial.value or 0.0))

    def epochs(self, setting: Mapping[str, Any]) -> float:
        """Passes over the data that a setting makes."""
        return float(self.trials.train_options(setting, Path()).epochs or 0.0)

    def predicted(self, setting: Mapping[str, Any]) -> float:
        """Seconds that a run with this setting should take."""
        clock = self.clocks[setting.get("encoder", self.options.encoders[0])]
        return clock.predict(self.epochs(setting), passes(setting))

    def fits(self, setting: Mapping[str, Any]) -> bool:
        """Whether a trial fits into the time that is left, and whoever wins may still be trained on fresh seeds."""
        trial, best = self.predicted(setting), self.best
        winner = max(trial, self.predicted(best.params)) if best else trial
        return self.elapsed + SPARE * (trial + self.options.final_seeds * winner) <= self.options.seconds


def run(options: SweepOptions, task_options: Mapping[str, Any]) -> SweepResult:
    """A whole sweep.

    Returns: what it found; the best model lies in the output folder, as `bertune train` leaves it.

    Raises:
        InputError: bad options, data or space; too little time for one trial and its repetition.
        Interrupted: by a signal; `resume` goes on.
    """
    began = time.monotonic()
    with run_errors(Path(options.output), "sweep", SWEEP):
        trials = Trials(options, task_options)
        task = new_task(options.task, task_options)
        metric = options.metric or task.metric
        tree = _checked(options, trials)
        space = _space(options, trials)
        with disk_errors(Path(options.output), 0):
            Path(options.output).mkdir(parents=True, exist_ok=True)
        with journal.held(Path(options.output)):
            study = journal.open_study(Path(options.output), metric, options.seed)
            sweep = Sweep(options, trials, study, metric, space, began - journal.elapsed_before(study))
            new = not study.trials
            _keep_space(sweep, new=new)
            _probe(sweep)
            if new:
                for setting in starting_points(space, task.defaults, trials.train_options({}, Path())):
                    study.enqueue_trial(setting)
            with disk_errors(sweep.folder, 0):
                write_yaml(sweep.folder / SWEEP, tree)
            _search(sweep)
            return _finish(sweep)


def _checked(options: SweepOptions, trials: Trials) -> dict[str, Any]:
    """Check what can be checked before any work. Returns: all options, for sweep.yaml."""
    problems = Problems()
    output = Path(options.output)
    tree = {name: value for name, value in vars(options).items() if name != "resume"} | trials.task_options
    try:
        _ = options.seconds
    except InputError as error:
        problems.add(str(error))
    if not options.encoders:
        problems.add(f"--encoder {options.encoder!r}: name an encoder, or several separated by commas")
    if not options.resume:
        problems.extend(output_problems(output, tree, resume=False))
        if (output / SWEEP).exists():
            problems.add(f"--output {output}: holds another sweep; name a new folder, or continue it with --resume")
    elif not (output / SWEEP).is_file():
        problems.add(f"--resume: {output} holds no sweep to go on with; leave --resume away to start one")
    else:
        before = read_yaml(output / SWEEP)
        problems.extend(
            f"--{name.replace('_', '-')} is {tree.get(name)!r}, but the sweep to resume has {before.get(name)!r}"
            for name in sorted(set(tree) | set(before))
            if name not in _MAY_CHANGE and tree.get(name) != before.get(name)
        )
    problems.raise_if_any()
    return tree


def _described(space: Space) -> dict[str, Any]:
    """A space as the journal has it."""
    return {
        name: {key: list(value) if isinstance(value, tuple) else value for key, value in vars(dimension).items()}
        for name, dimension in space.items()
    }


def _keep_space(sweep: Sweep, *, new: bool) -> None:
    """Keep what is tried in the journal, for the file that --space names may change.

    Raises:
        InputError: the sweep is to go on with other values than it began with.
    """
    now, before = _described(sweep.space), journal.space_before(sweep.study)
    if new or before is None:
        journal.keep_space(sweep.study, now)
        return
    if other := sorted(name for name in set(before) | set(now) if before.get(name) != now.get(name)):
        what = sweep.options.space or "(the default, which follows from data and encoder)"
        raise InputError(
            f"--space {what}: {', '.join(other)} differs from what the sweep to resume in {sweep.folder} tries; put it "
            "back, or name a new --output"
        )


def _space(options: SweepOptions, trials: Trials) -> Space:
    """What is to be tried. Raises InputError: the file, an encoder or the data cannot be read."""
    space = read_space(Path(options.space), options.encoders) if options.space else None
    named = space["encoder"].ends if space and "encoder" in space else options.encoders
    widths, layers, rows = [], [], 0
    for encoder in named:
        with open_checkpoint(str(encoder)) as checkpoint:
            widths.append(checkpoint.config.hidden_size)
            layers.append(checkpoint.config.num_hidden_layers)
        rows = trials.data(str(encoder)).train.units
    if space is None:
        return default_space(rows, widths, min(layers), options.encoders)
    most = max((int(value) for name in ("reinitialize_layers", "frozen_layers") if name in space
                for value in space[name].ends), default=0)  # fmt: skip
    if most > min(layers):
        raise InputError(f"{options.space}: {most} layers, but an encoder has only {min(layers)}")
    return space


def _probe(sweep: Sweep) -> None:
    """Measure each encoder's speed by a batch, and check that the time is enough for the shortest trial.

    Raises:
        InputError: the time is too short, with an estimate; or the probe failed.
    """
    options = sweep.options
    encoders = sweep.space["encoder"].ends if "encoder" in sweep.space else options.encoders[:1]
    for encoder in map(str, encoders):
        data = sweep.trials.data(encoder)
        assert data.validation is not None
        clock = sweep.clocks[encoder] = TimeModel(data.train.units, data.validation.units)
        found = sweep.trials.run({"encoder": encoder}, sweep.folder / TRIALS / "probe", math.inf, probe=True)
        shutil.rmtree(sweep.folder / TRIALS / "probe", ignore_errors=True)
        if found.ended != "done":
            _clear_new(sweep)
            raise InputError(f"--encoder {encoder}: its speed could not be measured: {found.error}")
        clock.observe(found.metrics, found.seconds, 0)
    least = dict.fromkeys(("epochs",), min(sweep.space["epochs"].ends)) if "epochs" in sweep.space else {}
    shortest = min(sweep.predicted({**least, "encoder": str(encoder)}) for encoder in encoders)
    needed = sweep.elapsed + SPARE * shortest * (1 + options.final_seeds)
    if not sweep.study.trials and needed > options.seconds:
        _clear_new(sweep)
        raise InputError(
            f"--time-limit {options.time_limit}: the shortest trial takes about {duration(shortest)} here, and the "
            f"winner is trained {options.final_seeds} times more; give at least {math.ceil(needed / 10) * 10}s, "
            "or name fewer epochs in --space"
        )
    logger.info("a trial takes from about %s on; %s in all", duration(shortest), duration(options.seconds))


def _clear_new(sweep: Sweep) -> None:
    """Leave nothing of a sweep that did not begin."""
    if not (sweep.folder / SWEEP).exists():
        for name in (journal.FILE, TRIALS):
            path = sweep.folder / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if not any(sweep.folder.iterdir()):
            sweep.folder.rmdir()


def _search(sweep: Sweep) -> None:
    """Try settings while the time lasts."""
    in_vain, options = 0, sweep.options
    while in_vain < _ASKED_IN_VAIN:
        raise_if_requested()
        if options.trials is not None and len(_made(sweep.study)) >= options.trials:
            return
        if journal.is_hopeless(sweep.study):
            return
        trial, setting = journal.ask(sweep.study, sweep.space)
        if _known(sweep.study, setting) or not sweep.fits(setting):
            journal.give_up(sweep.study, trial, "tried before" if sweep.fits(setting) else "too long for the time left")
            in_vain += 1
            continue
        in_vain = 0
        folder = sweep.folder / TRIALS / f"{trial.number:04d}"

        def falls_behind(rungs: list[float], setting: Mapping[str, Any] = setting) -> bool:
            others = [
                one.user_attrs["rungs"]
                for one in journal.finished_trials(sweep.study)
                if comparable(one.params, setting)
            ]
            return behind(rungs, others, lower=sweep.lower)

        best = sweep.best
        reserve = options.final_seeds * sweep.predicted(best.params) if best else 0.0
        deadline = sweep.began + options.seconds - reserve
        found = sweep.trials.run(setting, folder, deadline, falls_behind)
        _record(sweep, trial, setting, found)
        journal.keep_elapsed(sweep.study, sweep.elapsed)


def _made(study: "Study") -> list["FrozenTrial"]:
    """Trials that were run, whatever came of them."""
    return [trial for trial in study.get_trials(deepcopy=False) if "seconds" in trial.user_attrs]


def _known(study: "Study", setting: Mapping[str, Any]) -> bool:
    """Whether these very settings were run already."""
    return any(trial.params == dict(setting) for trial in _made(study))


def _record(sweep: Sweep, trial: Any, setting: Mapping[str, Any], found: TrialResult) -> None:
    """Write a trial into the journal; keep its model only where it is the best so far."""
    folder = sweep.folder / TRIALS / f"{trial.number:04d}"
    facts = {"seconds": round(found.seconds, 2), "worked": found.worked, "rungs": found.rungs, "ended": found.ended}
    value = found.metrics.get(sweep.metric, math.nan)
    shown = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in setting.items()
    )
    if found.ended != "done" or not math.isfinite(value):
        reasons = {"behind": "fell behind", "time": "the time was over", "done": f"{sweep.metric} is not a number"}
        reason = reasons.get(found.ended, found.error)
        logger.info("trial %d: %s (%s)", trial.number, reason, shown)
        journal.give_up(sweep.study, trial, reason, facts)
        shutil.rmtree(folder, ignore_errors=True)
        return
    before = sweep.best
    evaluations = max(1, len(found.rungs))
    clock = sweep.clocks[setting.get("encoder", sweep.options.encoders[0])]
    clock.observe(found.metrics, found.seconds, evaluations, passes(setting))
    journal.complete(sweep.study, trial, value, {**facts, "metrics": found.metrics})
    best = sweep.best
    assert best is not None
    logger.info(
        "trial %d: %s %.4f in %s%s (%s)",
        trial.number, sweep.metric, value, duration(found.seconds),
        ", the best so far" if best.number == trial.number else "", shown,
    )  # fmt: skip
    loser = folder if best.number != trial.number else None
    if loser is None and before is not None:
        loser = sweep.folder / TRIALS / f"{before.number:04d}"
    if loser is not None:
        shutil.rmtree(loser, ignore_errors=True)


@dataclass(frozen=True)
class _Repeated:
    """A run of the winner, as `runs.seeds` wants it. worked: seconds from its first update on."""

    metrics: dict[str, float]
    steps: int
    worked: float


def _finish(sweep: Sweep) -> SweepResult:
    """Train the winner on fresh seeds while the time lasts; its best model comes to the top of the folder.

    Raises:
        InputError: no trial brought a value.
    """
    best = sweep.best
    if best is None:
        failed = [trial.user_attrs.get("reason", "") for trial in _made(sweep.study)]
        raise InputError(f"no trial of {len(failed)} brought a value; the last: {failed[-1] if failed else 'none ran'}")
    first = sweep.options.seed + 1_000  # no trial's own, unless the space varies seeds that far
    done: dict[int, _Repeated] = {}
    for seed in range(first, first + sweep.options.final_seeds):
        raise_if_requested()
        left = sweep.options.seconds * _LATE - sweep.elapsed
        folder = sweep.folder / f"seed-{seed}"
        if sweep.options.resume and (before := finished(folder)) is not None:
            done[seed] = _Repeated(before[0], int(before[1].get("steps", 0)), worked(folder))
            continue
        if left < sweep.predicted(best.params):
            break
        found = sweep.trials.run({**best.params, "seed": seed}, folder, time.monotonic() + left)
        journal.keep_elapsed(sweep.study, sweep.elapsed)
        if found.ended != "done":
            logger.warning("seed %d: %s", seed, found.error if found.ended == "failed" else "the time was over")
            shutil.rmtree(folder, ignore_errors=True)
            break
        done[seed] = _Repeated(found.metrics, found.steps, found.worked)
        logger.info("winner, seed %d: %s %.4f", seed, sweep.metric, found.metrics[sweep.metric])
    seeds = None
    if len(done) > 1:
        seeds = run_seeds(
            sweep.folder, tuple(done), sweep.metric, lambda seed, folder, resume: done[seed], resume=False  # noqa: ARG005
        )  # fmt: skip
    else:
        logger.warning("no time was left to repeat the winner: its figure may be luck; the trial's own model is kept")
        winner = sweep.folder / TRIALS / f"{best.number:04d}"
        if not winner.is_dir():
            raise FaultError(f"{winner}: the best trial's model is gone; train it with the settings in {journal.FILE}")
        with disk_errors(sweep.folder, 0):
            put_on_top(sweep.folder, winner)
            shutil.copyfile(winner / "metrics.json", sweep.folder / "metrics.json")  # `put_on_top` leaves it behind
    shutil.rmtree(sweep.folder / TRIALS, ignore_errors=True)
    times = Times(sweep.elapsed, sweep.options.seconds, sum(one.worked for one in done.values()))
    result = SweepResult.of(sweep.study, sweep.metric, best, seeds, times)
    write_results(sweep.folder, result, sweep.trials.train_options(best.params, sweep.folder))
    return result
