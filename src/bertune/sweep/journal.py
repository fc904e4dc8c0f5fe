"""Optuna's study of a sweep, kept in a file to which every event is appended, so that a killed sweep can go on."""

import contextlib
import errno
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertune.distributed.world import current
from bertune.errors import InputError
from bertune.files.atomic_write import replaced
from bertune.sweep.space import Space
from bertune.tasks.protocol import lower_is_better
from bertune.training.run_folder.errors import disk_errors

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

logger = logging.getLogger(__name__)

FILE = "journal.log"
_ELAPSED, _SPACE, _NAME = "elapsed", "space", "sweep"
_HOPELESS = 5
"""Failed trials without a finished one after which no more are begun."""
_WAIT = 2.0
"""Seconds in which the trial of a sweep that was just killed ends, and its hold on the folder with it."""


def open_study(folder: Path, metric: str, seed: int) -> "Study":
    """The study in a folder, a new one where there is none. Of several ranks all open it, rank 0 before the others.

    A trial that a killed process left unfinished is recorded as failed, and its settings are the next to be tried.

    Raises:
        InputError: Optuna is not installed; a journal that cannot be read.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
        from optuna.trial import TrialState
    except ImportError:
        raise InputError("bertune sweep needs Optuna: pip install 'bertune[sweep]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path, world = str(folder / FILE), current()
    if world.is_first:
        _mend(folder / FILE)
        # A lock left by a killed process would be waited for; one sweep at a time works in a folder (see `sweep.run`).
        with contextlib.suppress(FileNotFoundError):
            Path(path + ".lock").unlink()
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
        known = {study.study_name for study in storage.get_all_studies()}
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path}: not a journal of bertune sweep ({error}); name a new --output") from None
    # After a resume the sampler must not repeat the numbers that it drew at the beginning.
    before = 0
    if _NAME in known:
        before = len(optuna.load_study(study_name=_NAME, storage=storage).trials)
    # Ranks draw different numbers, and keep away from what the others are just trying.
    drawn = np.random.SeedSequence((seed + before, world.rank)).generate_state(1)[0]
    sampler = optuna.samplers.TPESampler(seed=int(drawn) if world.rank else seed + before, constant_liar=world.size > 1)
    if _NAME in known:
        study = optuna.load_study(study_name=_NAME, storage=storage, sampler=sampler)
    else:
        direction = "minimize" if lower_is_better(metric) else "maximize"
        study = optuna.create_study(storage=storage, study_name=_NAME, direction=direction, sampler=sampler)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if world.is_first else ():
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(dict(trial.params), skip_if_exists=False)
        logger.info("trial %d was cut; its settings are tried again", trial.number)
    return study


def _mend(path: Path) -> None:
    """Cut off a last line that a killed process left unfinished: the next event would be appended to it.

    Raises:
        InputError: a line that no journal has.
    """
    if not path.is_file():
        return
    whole = path.read_bytes()
    kept = whole[: whole.rfind(b"\n") + 1]
    for number, line in enumerate(kept.splitlines(), 1):
        try:
            event = json.loads(line)
            sound = isinstance(event, dict) and isinstance(event.get("op_code"), int)
        except ValueError:
            sound = False
        if not sound:
            raise InputError(
                f"{path}:{number}: damaged, so the trials cannot be taken up; restore the file, or name a new --output"
            )
    if len(kept) < len(whole):
        logger.warning("%s: its last line was cut off in the middle; that event is lost", path)
        with disk_errors(path, 0), replaced(path) as file:
            file.write(kept)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other sweeps out of a folder, where the system has locks of files; a killed process's lock goes with it.

    Raises:
        InputError: another sweep is at work there.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / FILE).open("ab") as file:
        until = time.monotonic() + _WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    break  # a file system without locks
                if time.monotonic() > until:
                    raise InputError(
                        f"--output {folder}: another sweep is at work in it; wait for it, or name a new folder"
                    ) from None
            time.sleep(0.1)
        yield


def elapsed_before(study: "Study") -> float:
    """Seconds that earlier sessions of the sweep took."""
    return float(study.user_attrs.get(_ELAPSED, 0.0))


def keep_elapsed(study: "Study", seconds: float) -> None:
    """Record how long the sweep has taken so far, over all its sessions."""
    study.set_user_attr(_ELAPSED, seconds)


def space_before(study: "Study") -> dict[str, Any] | None:
    """What `keep_space` kept; None where nothing is."""
    found: dict[str, Any] | None = study.user_attrs.get(_SPACE)
    return found


def keep_space(study: "Study", space: Mapping[str, Any]) -> None:
    """Record what the sweep tries."""
    study.set_user_attr(_SPACE, dict(space))


def ask(study: "Study", space: Space) -> tuple["Trial", dict[str, Any]]:
    """A new trial, and its settings."""
    trial = study.ask()
    return trial, {name: dimension.suggest(trial, name) for name, dimension in space.items()}


def complete(study: "Study", trial: "Trial", value: float, facts: Mapping[str, Any]) -> None:
    """Record a finished trial. facts: what the table and the next choices need: seconds, rungs, metrics."""
    for name, fact in facts.items():
        trial.set_user_attr(name, fact)
    study.tell(trial, value)


def give_up(study: "Study", trial: "Trial", reason: str, facts: Mapping[str, Any] | None = None) -> None:
    """Record a trial that brought no value: it failed, fell behind, or would not have fitted into the time."""
    from optuna.trial import TrialState

    for name, fact in {**(facts or {}), "reason": reason}.items():
        trial.set_user_attr(name, fact)
    study.tell(trial, state=TrialState.FAIL)


def made(study: "Study") -> list["FrozenTrial"]:
    """Trials that were run, whatever came of them."""
    return [trial for trial in study.get_trials(deepcopy=False) if "seconds" in trial.user_attrs]


def running_settings(study: "Study", space: Space) -> list[dict[str, Any]]:
    """What is being tried just now, by this rank and the others."""
    from optuna.trial import TrialState

    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [dict(trial.params) for trial in running if set(trial.params) == set(space)]


def is_hopeless(study: "Study") -> bool:
    """Whether trial after trial fails, and none has brought a value: what is wrong is not their settings."""
    from optuna.trial import TrialState

    ran = made(study)
    failed = [trial for trial in ran if trial.user_attrs.get("ended") == "failed"]
    return len(failed) >= _HOPELESS and not any(trial.state == TrialState.COMPLETE for trial in ran)


def finished_trials(study: "Study") -> list["FrozenTrial"]:
    """Trials with a value, in the order in which they were begun."""
    from optuna.trial import TrialState

    found: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found
