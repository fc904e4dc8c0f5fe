"""Checkpoints of a run: folders of tensors and progress, whole or not there, each with a hash of its content."""

import dataclasses
import hashlib
import json
import logging
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertune.data.rows import file_sha256
from bertune.errors import InputError, Problems
from bertune.files.atomic_write import sync, sync_tree
from bertune.files.json_files import read_json
from bertune.model.record import MODEL_FILE
from bertune.training.loop.optimizer import AdamW
from bertune.training.loop.randomness import random_state, restore_random_state
from bertune.training.loop.state import TrainState

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)(?:\.(\d+))?")


FORMAT = 2
"""Of progress.json: the names of its fields. 0.1.0 wrote format 1, without saying so."""
_RENAMED = {
    "same_answer": "best_constant_prediction",
    "alike": "constant_prediction",
    "alike_since": "constant_prediction_since",
    "due": "evaluation_due",
    "pieces": "micro_batches",
}
"""Fields of format 1, and what they are called since."""


class Checkpoints:
    """The checkpoints of one run.

    folder: where they lie; the run makes it.
    """

    def __init__(
        self, folder: Path, *, keep: int, inputs: Mapping[str, str], fitted: Mapping[str, Any] | None = None
    ) -> None:
        """The rules of a run.

        Args:
            folder: where they lie.
            keep: newest ones that stay.
            inputs: SHA-256 of what the run is made from, by what each is called in messages.
            fitted: what the task learnt from the training data, of values that JSON can hold.
        """
        self.folder = folder
        self._fitted: dict[str, Any] = json.loads(json.dumps(fitted or {}))
        self._keep = keep
        self._inputs = dict(inputs)

    def clear_away(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for left in (*self.folder.glob(".writing-*"), *self.folder.glob(".removing-*")):
            shutil.rmtree(left, ignore_errors=True)

    def save(self, optimizer: AdamW, state: TrainState) -> Path:
        """Write weights, moments, random generators and progress. Returns: where.

        The oldest go first as far as one whole one is left, so that a new one needs no more room than an old one gave.

        Raises:
            OSError, SafetensorError: it cannot be written; the last one is there still.
        """
        tensors = state_of(optimizer)
        target = self._new_name(state.step)
        self._remove_all_but(max(self._keep - 1, 1), state.step)
        beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=self.folder))
        try:
            save_file(tensors, beside / "state.safetensors")
            described: dict[str, Any] = {
                "format": FORMAT,
                "progress": dataclasses.asdict(state),
                "inputs": self._inputs,
                "fitted": self._fitted,
                "sha256": file_sha256(beside / "state.safetensors"),
            }
            described["own_sha256"] = _own_sha256(described)
            (beside / "progress.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
            sync_tree(beside)
            beside.rename(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        sync(self.folder)
        self._remove_all_but(self._keep, state.step)
        return target

    def load(self, optimizer: AdamW) -> TrainState | None:
        """Take up the newest whole one: weights, moments, random generators. Damaged newer ones are removed.

        Returns: how far it had come; None where there is no checkpoint at all.

        Raises:
            InputError: all are damaged; the run began with other data or another encoder.
        """
        damaged: list[Path] = []
        for path in reversed(self._all()):
            try:
                described, tensors = _read(path)
                state = _state_of(described)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                logger.warning("%s: damaged (%s); looking for the one before", path, error)
                damaged.append(path)
                continue
            fitted = described.get("fitted")
            self._check_inputs(described.get("inputs", {}), self._fitted_of_model() if fitted is None else fitted)
            optimizer.restore(tensors)
            restore_random_state(tensors)
            for newer in damaged:
                self._remove(newer)
            logger.info("going on from %s", path)
            return state
        if damaged:
            raise InputError(
                f"--resume: {self.folder} holds no complete checkpoint to start from; remove that folder to train from "
                "the beginning, or train again into a new folder"
            )
        return None

    def _fitted_of_model(self) -> dict[str, Any]:
        """What the task learnt, as the run's best model says it: checkpoints of 0.1.0 do not.

        Numbers with a fraction are left out: validation data tunes thresholds, which a model has and a start has not.

        Raises:
            InputError: there is no model yet, and 0.1.0 put labels like these in an order of its own in every process.
        """
        path = self.folder.parent / MODEL_FILE
        if path.is_file():
            before = read_json(path).get("task")
            known = before if isinstance(before, dict) else {}
            return {
                name: known[name] for name, found in self._fitted.items() if name in known and not _is_floats(found)
            }
        if unordered := [label for label in self._fitted.get("labels", ()) if _is_nan(label)]:
            raise InputError(
                f"--resume: the labels {', '.join(map(repr, unordered))} had no fixed order in the version of bertune "
                "that began this run, and no model of the run says which they had; train anew into a new folder"
            )
        return {}

    def _check_inputs(self, before: Mapping[str, str], fitted_before: Mapping[str, Any]) -> None:
        problems = Problems()
        problems.extend(
            f"--resume: the task's {name} differ from those the checkpoint was trained with: "
            f"{_short(fitted_before[name])} then, {_short(found)} now, of the same data; go on with the "
            "version of bertune (and the task file) that began the run, or train again into a new folder"
            for name, found in self._fitted.items()
            if name in fitted_before and json.dumps(fitted_before[name]) != json.dumps(found)
        )
        problems.extend(
            f"--resume: {name} changed since the run began: SHA-256 {before[name]} then, {found} now; bring it back "
            "as it was, or train again into a new folder"
            for name, found in self._inputs.items()
            if before.get(name, found) != found
        )
        problems.raise_if_any()

    def _all(self) -> list[Path]:
        """Oldest first."""
        found = [(match, path) for path in self.folder.glob("step-*") if (match := _NAME.fullmatch(path.name))]
        return [path for match, path in sorted(found, key=lambda one: (int(one[0][1]), int(one[0][2] or 0)))]

    def _new_name(self, step: int) -> Path:
        """Behind all others of this step: there may be one from before its evaluation, and one from after it."""
        path, again = self.folder / f"step-{step:08d}", 0
        while path.exists():
            again += 1
            path = self.folder / f"step-{step:08d}.{again}"
        return path

    def _remove_all_but(self, keep: int, step: int) -> None:
        """Leave the newest up to a step; later ones are of a try that was given up."""
        ours = [path for path in self._all() if int(path.name.split("-")[1].split(".")[0]) <= step]
        for path in self._all():
            if path not in ours[-keep:]:
                self._remove(path)

    def _remove(self, path: Path) -> None:
        """Out of sight first: a process that is killed here leaves no half checkpoint."""
        hidden = path.with_name(f".removing-{path.name}")
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)  # a rest is removed when the run is resumed


def _is_floats(value: object) -> bool:
    return all(map(_is_floats, value)) if isinstance(value, list) and value else isinstance(value, float)


def _is_nan(label: object) -> bool:
    try:
        return math.isnan(float(str(label)))
    except ValueError:
        return False


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"


def state_of(optimizer: AdamW) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the host. Shape: as `AdamW.state` and `random_state` give them."""
    tensors = optimizer.state() | random_state()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _state_of(described: Mapping[str, Any]) -> TrainState:
    """How far a checkpoint's run had come, whatever format it was written in.

    Raises:
        InputError: a format that only a newer bertune knows.
        TypeError: other fields than that format has.
    """
    found = described.get("format", 1)
    if found not in (1, FORMAT):
        raise InputError(
            f"--resume: its checkpoints are of format {found}, but this bertune reads up to {FORMAT}; take the version "
            "that wrote them"
        )
    values: Mapping[str, Any] = described["progress"]
    if found == 1:
        values = {_RENAMED.get(name, name): value for name, value in values.items()}
    return TrainState(**values)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint says and holds.

    Raises:
        OSError, ValueError, KeyError, SafetensorError: it is not as it was written.
    """
    described = json.loads((path / "progress.json").read_text(encoding="utf-8"))
    if not isinstance(described, dict):
        raise ValueError("progress.json holds no object")
    if described.pop("own_sha256") != _own_sha256(described):
        raise ValueError("the SHA-256 of progress.json does not match")
    if not (path / "state.safetensors").is_file():
        raise ValueError("state.safetensors is missing")
    if file_sha256(path / "state.safetensors") != described["sha256"]:
        raise ValueError("the SHA-256 of state.safetensors does not match")
    return described, load_file(path / "state.safetensors")


def _own_sha256(described: Mapping[str, Any]) -> str:
    """Of all that progress.json says besides, however it is laid out."""
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()
