"""A sweep from options to its best model: a probe, trials while time lasts, the winner again on fresh seeds.

Half of the result is honesty: the best of many trials is partly luck, so the winner is trained again with seeds that no
trial has seen, and its mean stands beside the figure that won.

Under torchrun every rank runs trials of its own and all write one journal; rank 0 keeps the folder and reports.
"""

import contextlib
import logging
import math
import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.checkpoints.source import open_checkpoint
from bertune.distributed.world import current, is_restart
from bertune.durations import duration
from bertune.errors import InputError, Problems
from bertune.files.yaml_files import read_yaml, write_yaml
from bertune.sweep import journal
from bertune.sweep.clock import SPARE, TimeModel, behind, comparable
from bertune.sweep.options import SweepOptions
from bertune.sweep.repeat import finish
from bertune.sweep.results import SweepResult
from bertune.sweep.space import Space, default_space, passes, read_space, starting_points
from bertune.sweep.state import TRIALS, Sweep
from bertune.sweep.trials import TrialResult, Trials
from bertune.tasks.registry import new_task
from bertune.training.fine_tune import metric_problems
from bertune.training.loop.signals import raise_if_requested
from bertune.training.prepare import length_problems
from bertune.training.run_folder.errors import disk_errors, run_errors
from bertune.training.run_folder.output import output_problems

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial

logger = logging.getLogger(__name__)

SWEEP = "sweep.yaml"
_MAY_CHANGE = frozenset({"output", "time_limit", "trials", "feature_cache"})
"""Options that a sweep may go on with as others: more time, more trials."""
_ASKED_IN_VAIN = 20
"""Suggestions in a row that do not fit into the time, after which no more are asked for."""


def run(options: SweepOptions, task_options: Mapping[str, Any]) -> SweepResult:
    """A whole sweep.

    Returns: what it found; the best model lies in the output folder, as `bertune train` leaves it.

    Raises:
        InputError: bad options, data or space; too little time for one trial and its repetition.
        Interrupted: by a signal; `resume` goes on.
    """
    began, world = time.monotonic(), current()
    resume = options.resume or (is_restart() and (Path(options.output) / SWEEP).is_file())
    options = replace(options, resume=resume)
    with run_errors(Path(options.output), "sweep", SWEEP):
        trials = Trials(options, task_options)
        task = new_task(options.task, task_options)
        metric = options.metric or task.metric
        tree = _checked(options, trials)
        space = _space(options, trials)
        world.wait()  # until all have seen the folder as it was
        with disk_errors(Path(options.output), 0):
            Path(options.output).mkdir(parents=True, exist_ok=True)
        with journal.held(Path(options.output)) if world.is_first else contextlib.nullcontext():
            study = world.first_then_others(lambda: journal.open_study(Path(options.output), metric, options.seed))
            sweep = Sweep(options, trials, study, metric, space, began - journal.elapsed_before(study), world)
            new = world.agree(not study.trials)
            if world.is_first:
                _keep_space(sweep, new=new)
            _probe(sweep, new=new)
            if world.is_first:
                if new:
                    for setting in starting_points(space, task.defaults, trials.train_options({}, Path())):
                        study.enqueue_trial(setting)
                with disk_errors(sweep.folder, 0):
                    write_yaml(sweep.folder / SWEEP, tree)
            if world.size > 1:
                logger.info("trials run side by side on %d ranks", world.size)
            made = len(journal.made(study))
            world.wait()
            _search(sweep, made)
            return finish(sweep)


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
    task = new_task(options.task, trials.task_options)
    problems.extend(metric_problems(options.metric, task))
    for encoder in options.encoders:
        problems.extend(length_problems(trials.train_options({"encoder": encoder}, Path()), task))
    if not options.resume:
        problems.extend(output_problems(output, tree, resume=False))
        if (output / SWEEP).exists():
            problems.add(f"--output {output}: holds another sweep; name a new folder, or continue it with --resume")
    elif not (output / SWEEP).is_file():
        problems.add(f"--resume: {output} contains no sweep to continue; leave out --resume to start one")
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


def _probe(sweep: Sweep, *, new: bool) -> None:
    """Measure each encoder's speed by a batch, and check that the time is enough for the shortest trial.

    All ranks do so at once, as they will run trials at once. new: whether the sweep begins now.

    Raises:
        InputError: the time is too short, with an estimate; or the probe failed.
    """
    options, problem = sweep.options, ""
    encoders = sweep.space["encoder"].ends if "encoder" in sweep.space else options.encoders[:1]
    for encoder in map(str, encoders):
        data = sweep.trials.data(encoder)
        assert data.validation is not None
        clock = sweep.clocks[encoder] = TimeModel(data.train.units, data.validation.units)
        folder = sweep.folder / TRIALS / f"probe-{sweep.world.rank}"
        found = sweep.trials.run({"encoder": encoder}, folder, math.inf, probe=True)
        shutil.rmtree(folder, ignore_errors=True)
        if found.ended != "done":
            problem = f"--encoder {encoder}: its speed could not be measured: {found.error}"
            break
        clock.observe(found.metrics, found.seconds, 0)
    problem = next(filter(None, sweep.world.gather(problem)), "")
    if problem:
        _clear_new(sweep)
        raise InputError(problem)
    least = dict.fromkeys(("epochs",), min(sweep.space["epochs"].ends)) if "epochs" in sweep.space else {}
    shortest = min(sweep.predicted({**least, "encoder": str(encoder)}) for encoder in encoders)
    shortest, elapsed = max(sweep.world.gather((shortest, sweep.elapsed)))
    needed = elapsed + SPARE * shortest * (1 + sweep.rounds)
    if new and needed > options.seconds:
        _clear_new(sweep)
        raise InputError(
            f"--time-limit {options.time_limit}: the shortest trial takes about {duration(shortest)} here, and the "
            f"winner is trained {options.final_seeds} times more; give at least {math.ceil(needed / 10) * 10}s, "
            "or name fewer epochs in --space"
        )
    logger.info("a trial takes from about %s on; %s in all", duration(shortest), duration(options.seconds))


def _clear_new(sweep: Sweep) -> None:
    """Leave nothing of a sweep that did not begin."""
    if sweep.world.is_first and not (sweep.folder / SWEEP).exists():
        for name in (journal.FILE, TRIALS):
            path = sweep.folder / name
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        if not any(sweep.folder.iterdir()):
            sweep.folder.rmdir()


def _search(sweep: Sweep, made: int) -> None:
    """Try settings while the time lasts. made: trials of earlier sessions."""
    for number in sweep.world.count("trials"):
        if sweep.options.trials is not None and made + number >= sweep.options.trials:
            return
        raise_if_requested()
        found = None if journal.is_hopeless(sweep.study) else _next(sweep)
        if found is None:
            return
        _try(sweep, *found)


def _next(sweep: Sweep) -> tuple["Trial", dict[str, Any]] | None:
    """A trial that fits into the time, and its setting; None where none is found."""
    for _ in range(_ASKED_IN_VAIN):
        trial, setting = journal.ask(sweep.study, sweep.space)
        fits = sweep.fits(setting)
        if fits and not _known(sweep.study, setting):
            return trial, setting
        journal.give_up(sweep.study, trial, "tried before" if fits else "too long for the time left")
    return None


def _try(sweep: Sweep, trial: "Trial", setting: Mapping[str, Any]) -> None:
    """Run a trial, and record what came of it."""

    def falls_behind(rungs: list[float]) -> bool:
        finished = journal.finished_trials(sweep.study)
        others = [one.user_attrs["rungs"] for one in finished if comparable(one.params, setting)]
        return behind(rungs, others, lower=sweep.lower)

    best = sweep.best
    reserve = sweep.rounds * sweep.repetition(best) if best else 0.0
    deadline = sweep.began + sweep.options.seconds - reserve
    found = sweep.trials.run(setting, sweep.folder / TRIALS / f"{trial.number:04d}", deadline, falls_behind)
    _record(sweep, trial, setting, found)
    journal.keep_elapsed(sweep.study, sweep.elapsed)


def _known(study: "Study", setting: Mapping[str, Any]) -> bool:
    """Whether these very settings were run already."""
    return any(trial.params == dict(setting) for trial in journal.made(study))


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
    evaluations = max(1, len(found.rungs))
    clock = sweep.clocks[setting.get("encoder", sweep.options.encoders[0])]
    if not clock.probed:
        clock.missed.append(found.seconds / max(sweep.predicted(setting), 1e-9))
    clock.observe(found.metrics, found.seconds, evaluations, passes(setting))
    journal.complete(sweep.study, trial, value, {**facts, "metrics": found.metrics})
    best = sweep.best
    assert best is not None
    logger.info(
        "trial %d: %s %.4f in %s%s (%s)",
        trial.number, sweep.metric, value, duration(found.seconds),
        ", the best so far" if best.number == trial.number else "", shown,
    )  # fmt: skip
    for loser in journal.finished_trials(sweep.study):
        if loser.number != best.number:
            shutil.rmtree(sweep.folder / TRIALS / f"{loser.number:04d}", ignore_errors=True)
