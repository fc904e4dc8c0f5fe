"""Starting again with the next seed when a run collapsed (`--restarts`), in the same folder.

`tries.json` holds the tries that were given up, and thereby which seed is at work. It is written before a given-up
try's checkpoints go. A process that is killed between the two finds checkpoints of another seed than its own, and
removes them then.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.distributed.world import current
from bertune.errors import InputError
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.training.loop.state import TrainState
from bertune.training.run_folder.errors import disk_errors
from bertune.training.runs.collapse import OTHER_SEEDS, REMEDY

logger = logging.getLogger(__name__)

_FILE = "tries.json"


@dataclass(frozen=True)
class RestartResult:
    """How far a try came. collapse: of the kept model, if it is one.  late: one of later updates, if there was one."""

    state: TrainState
    collapse: str | None = None
    late: str | None = None


Attempt = Callable[[int, bool], RestartResult]
"""Seed, and whether to continue from a checkpoint → what came of it.

Where the checkpoint is another seed's, its progress comes back and nothing has been done.
"""


@dataclass(frozen=True)
class Restarts:
    """What a run came to. given_up: what each try before the last was: seed, steps, metrics, collapse."""

    last: RestartResult
    given_up: list[dict[str, Any]]


def train_with_restarts(folder: Path, first_seed: int, restarts: int, attempt: Attempt, *, resume: bool) -> Restarts:
    """Train with one seed after the other until a try does not collapse, or none is left.

    Args:
        folder: of the run.
        first_seed: of the first try; each further one has the next number.
        restarts: most further tries.
        attempt: trains with a seed, from its beginning or its checkpoint.
        resume: whether the run that lies in the folder goes on.

    Raises:
        InputError: a record of tries that is not as it was written.
    """
    given_up = current().agree(_read(folder / _FILE) if resume else [])
    while True:
        seed = first_seed + len(given_up)
        last = attempt(seed, resume)
        state, collapse = last.state, last.collapse
        if state.seed != seed:
            _remove_checkpoints(folder)
            continue
        if collapse is None:
            if last.late is not None:
                logger.warning("%s; %s", last.late, REMEDY)
            return Restarts(last, given_up)
        logger.warning("the run with seed %d collapsed: %s", seed, collapse)
        if len(given_up) >= restarts:
            logger.warning("%s", f"{'no restart is left' if restarts else OTHER_SEEDS}; {REMEDY}")
            return Restarts(last, given_up)
        logger.warning("starting again with seed %d (%d of --restarts %d)", seed + 1, len(given_up) + 1, restarts)
        given_up.append({"seed": seed, "steps": state.step, "collapse": collapse, "metrics": dict(state.best_metrics)})
        if current().is_first:
            with disk_errors(folder / _FILE, 0):
                write_text(folder / _FILE, json.dumps({"given_up": given_up}, indent=2) + "\n")
        _remove_checkpoints(folder)
        resume = False


def _remove_checkpoints(folder: Path) -> None:
    """Out of sight as a whole first, so that no half of them is ever found."""
    checkpoints, hidden = folder / "checkpoints", folder / ".writing-checkpoints"
    if not current().is_first:
        return
    with disk_errors(folder, 0):
        if checkpoints.is_dir():
            checkpoints.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    given_up = read_json(path).get("given_up")
    if not isinstance(given_up, list) or not all(isinstance(one, dict) for one in given_up):
        raise InputError(f"{path}: not as bertune wrote it; remove the folder and train again")
    return given_up
