"""Optuna's study of a sweep, kept in a file to which every event is appended, so that a killed sweep can go on."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.errors import InputError
from bertune.sweep.space import Space
from bertune.tasks.protocol import lower_is_better

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

logger = logging.getLogger(__name__)

FILE = "journal.log"
_ELAPSED, _NAME = "elapsed", "sweep"


def open_study(folder: Path, metric: str, seed: int) -> "Study":
    """The study in a folder, a new one where there is none.

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
    path = str(folder / FILE)
    # A lock left by a killed process would be waited for; one sweep at a time works in a folder (see `sweep.run`).
    with contextlib.suppress(FileNotFoundError):
        Path(path + ".lock").unlink()
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
        known = {study.study_name for study in storage.get_all_studies()}
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: not a journal of bertune sweep ({error}); name a new --output") from None
    # After a resume the sampler must not repeat the numbers that it drew at the beginning.
    before = 0
    if _NAME in known:
        before = len(optuna.load_study(study_name=_NAME, storage=storage).trials)
    study = optuna.create_study(
        storage=storage,
        study_name=_NAME,
        load_if_exists=True,
        direction="minimize" if lower_is_better(metric) else "maximize",
        sampler=optuna.samplers.TPESampler(seed=seed + before),
    )
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(dict(trial.params), skip_if_exists=False)
        logger.info("trial %d was cut; its settings are tried again", trial.number)
    return study


def elapsed_before(study: "Study") -> float:
    """Seconds that earlier sessions of the sweep took."""
    return float(study.user_attrs.get(_ELAPSED, 0.0))


def keep_elapsed(study: "Study", seconds: float) -> None:
    """Record how long the sweep has taken so far, over all its sessions."""
    study.set_user_attr(_ELAPSED, seconds)


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


def finished_trials(study: "Study") -> list["FrozenTrial"]:
    """Trials with a value, in the order in which they were begun."""
    from optuna.trial import TrialState

    found: list[FrozenTrial] = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return found
