"""The run folder: checkpoints for resuming, the best model, curves, and run.yaml that repeats the run."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from bertune.errors import FaultError
from bertune.files.yaml_files import write_yaml
from bertune.model.folder import finish_saving
from bertune.progress import Curves
from bertune.training.loop.optimizer import AdamW
from bertune.training.loop.state import Evaluation, TrainState
from bertune.training.run_folder.checkpoints import Checkpoints
from bertune.training.run_folder.disk_space import check_disk_space, size_of
from bertune.training.run_folder.errors import disk_errors

logger = logging.getLogger(__name__)

SaveModel = Callable[[Mapping[str, Tensor], Evaluation], None]

KEPT = 2
"""Checkpoints that stay: the last, and the one before it in case the last is damaged. Writing a new one beside the
last takes the room of two anyway."""


@dataclass(frozen=True)
class FolderEvents:
    """What a caller does as a run goes on.

    begin: before anything is written, once nothing speaks against the run any more.
    follow: with every point of the curves, and its step.
    """

    begin: Callable[[], None] = lambda: None
    follow: Callable[[Mapping[str, float], int], None] = lambda _values, _step: None


class RunFolder:
    """Keeps a run in its output folder."""

    def __init__(
        self,
        folder: Path,
        save_model: SaveModel,
        tree: Mapping[str, Any],
        *,
        keep: int = KEPT,
        inputs: Mapping[str, str] | None = None,
        fitted: Mapping[str, Any] | None = None,
        further: int = 0,
        events: "FolderEvents | None" = None,
    ) -> None:
        """The folder need not be there yet.

        Args:
            folder: of the run.
            save_model: writes the model folder at its top.
            tree: all options, for run.yaml.
            keep: checkpoints that stay.
            inputs: SHA-256 of what the run is made from, by what each is called in messages.
            fitted: what the task learnt from the training data; a run that goes on must have learnt the same.
            further: runs of the same size that are to follow on the same disk.
            events: called as the run goes on.
        """
        self.folder = folder
        self._checkpoints = Checkpoints(folder / "checkpoints", keep=keep, inputs=inputs or {}, fitted=fitted)
        self._tree, self._keep, self._further = tree, keep, further
        self._save_model, self._events = save_model, events or FolderEvents()
        self._curves = Curves(folder / "logs")
        self._place: tuple[int, int] | None = None

    def start(self, optimizer: AdamW, *, resume: bool) -> TrainState:
        """Begin a run, or take up the one that lies here: disk checked, what a killed process left cleared away.

        Args:
            optimizer: of the run; a checkpoint's weights and moments go there.
            resume: whether to go on.

        Raises:
            InputError: only damaged checkpoints; other data or another encoder than the run began with.
            FaultError: too little space, or a folder that cannot be written.
        """
        with disk_errors(self.folder, 0):
            check_disk_space(
                self.folder, size_of(optimizer.state()), size_of(optimizer.masters()), self._keep, self._further
            )
        state = self.load_checkpoint(optimizer) if resume else TrainState()
        self._events.begin()
        with disk_errors(self.folder, 0):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_yaml(self.folder / "run.yaml", self._tree)  # the first of all: from now on the run can be resumed
            finish_saving(self.folder)
            for left in self.folder.glob(".writing-*"):
                shutil.rmtree(left, ignore_errors=True)
            for needed in (self._checkpoints.folder, self.folder / "logs"):
                needed.mkdir(exist_ok=True)
            self._place = _place(self._checkpoints.folder)
            self._checkpoints.clear_away()
        return state

    def save_best(self, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """Write the model folder at the top of the run. weights: Shape: those of the network.

        Raises:
            FaultError: it cannot be written; the one before is there still.
        """
        with self._writing(self.folder / "model.safetensors", size_of(weights)):
            self._save_model(weights, evaluation)

    def save_checkpoint(self, optimizer: AdamW, state: TrainState) -> None:
        """Keep what an exact continuation needs.

        Raises:
            FaultError: it cannot be written; the last one is there still.
        """
        with self._writing(self._checkpoints.folder, size_of(optimizer.state())):
            self._checkpoints.save(optimizer, state)
        self._curves.flush()

    def load_checkpoint(self, optimizer: AdamW) -> TrainState:
        """Take up the newest whole checkpoint; the beginning, where the run was stopped before its first one.

        Raises:
            InputError: all are damaged; the run began with other data or another encoder.
        """
        state = self._checkpoints.load(optimizer)
        if state is None:
            logger.warning("%s: stopped before its first checkpoint; starting from the beginning", self.folder)
            return TrainState()
        return state

    def curves(self, values: Mapping[str, float], step: int) -> None:
        """Add points to TensorBoard's curves, and to those of other trackers."""
        self._curves.add(values, step)
        self._events.follow(values, step)

    def close(self) -> None:
        """Write what is left of the curves."""
        self._curves.close()

    @contextmanager
    def _writing(self, path: Path, needed: int) -> Iterator[None]:
        """Also sees that the folder is the one that the run began in, not the place where it was mounted.

        Raises:
            FaultError: it is not, or the disk failed.
        """
        with disk_errors(path, needed):
            if self._place is not None and _place(self._checkpoints.folder) != self._place:
                raise FaultError(
                    f"{path}: cannot be written: {self.folder} is another folder now than the one that the run began "
                    "in; was its disk unmounted?"
                )
            yield


def _place(folder: Path) -> tuple[int, int]:
    """Which folder of which disk this is."""
    found = folder.stat()
    return found.st_dev, found.st_ino
