"""An output folder as google-research/bert keeps it: checkpoints of a run that goes on when it is started again.

`model.ckpt-STEP.{index,data-00000-of-00001}` hold weights, Adam's moments (`NAME/adam_m`, `NAME/adam_v`) and
`global_step`; the text file `checkpoint` names the newest and those before it.
`model.ckpt-STEP.bertune.json` is ours: how dropout is drawn.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertune.checkpoints.google_files import find_checkpoint
from bertune.checkpoints.names import Rename, to_ours, to_theirs
from bertune.errors import FaultError, InputError
from bertune.files import atomic_write as files
from bertune.files.json_files import read_json
from bertune.google.initial_checkpoint import check_shapes
from bertune.model.provenance import dropout_record
from bertune.network import Network
from bertune.progress import Curves
from bertune.tensorflow_formats.tensor_bundle import Array, TensorBundle, write_bundle
from bertune.training.loop.optimizer import AdamW
from bertune.training.loop.state import Evaluation, TrainState
from bertune.training.run_folder.errors import disk_errors

logger = logging.getLogger(__name__)

_LISTED = re.compile(r'^all_model_checkpoint_paths: "([^"]+)"', re.MULTILINE)
_CURVES = {"train/loss": "loss", "train/learning_rate": "learning_rate", "train/examples_per_second": "examples/sec"}
_RECORD = ".bertune.json"
"""The end of a file's name beside each checkpoint."""
_EVERY = 100
"""Updates from one point of the curves to the next, as in the original."""


def newest(folder: Path) -> Path | None:
    """The prefix of the newest checkpoint in an output folder; None where there is none.

    Raises:
        InputError: the file `checkpoint` names one that is gone.
    """
    return find_checkpoint(folder) if (folder / "checkpoint").is_file() else None


def load_weights(network: Network, names: Sequence[Rename], prefix: Path) -> int:
    """Take all weights from a checkpoint of this very program.

    Returns: its global step; 0 where none is stored.

    Raises:
        InputError: variables are missing or have another shape.
    """
    bundle = TensorBundle(prefix)
    theirs = [their for name in names for their in name.theirs]
    tensors = {their: _tensor(bundle.read(key)) for their in theirs if (key := _key(bundle, their))}
    state, missing, _ = to_ours(names, tensors)
    if missing:
        some = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise InputError(
            f"{prefix}: lacks {some}; this folder holds a run of another program or model: name another --output_dir, "
            "or hand the checkpoint to --init_checkpoint"
        )
    check_shapes(network, state, {name.ours: name.theirs for name in names}, str(prefix))
    network.load_state_dict(state, strict=False)
    return step_of(bundle)


def step_of(bundle: TensorBundle) -> int:
    """The global step of a checkpoint; 0 where none is stored."""
    return int(bundle.read("global_step")) if "global_step" in bundle else 0


def drops_by_example(prefix: Path) -> bool:
    """Whether the run of a checkpoint draws dropout by the example; those that older versions began do not."""
    path = prefix.with_name(prefix.name + _RECORD)
    return path.is_file() and read_json(path) == dropout_record(by_example=True)


def _key(bundle: TensorBundle, name: str) -> str | None:
    """What a bundle calls a variable: run_classifier_with_tfhub's encoders lie below `module/`."""
    return next((key for key in (name, f"module/{name}") if key in bundle), None)


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


class OutputFolder:
    """The folder of a run as the original leaves it (see `training.launch.Output`)."""

    def __init__(
        self,
        folder: Path,
        network: Network,
        names: Sequence[Rename],
        *,
        keep: int,
        start: tuple[Path | None, int] = (None, 0),
        drops_by_example: bool = True,
    ) -> None:
        """The weights of the checkpoint that a run goes on from are in the network already.

        Args:
            folder: `--output_dir`.
            network: that is trained.
            names: of its weights, ours and the original's.
            keep: checkpoints that stay, the newest; 0: all.
            start: the checkpoint that the run goes on from, and its step.
            drops_by_example: as `training.launch.TrainingJob`; kept with every checkpoint.
        """
        self._drops_by_example = drops_by_example
        self.folder, self.keep = folder, keep
        self._network, self._names = network, names
        self._prefix, self._step = start
        self._curves = Curves(folder)

    def start(self, optimizer: AdamW, *, resume: bool) -> TrainState:
        """Take up the checkpoint's moments; a new run begins with a checkpoint of its start, as the original's does."""
        if resume and self._prefix is not None:
            state = self.restore(optimizer, self._prefix, self._step)
            logger.info("going on from %s, step %d", self._prefix, self._step)
            return state
        self.save_checkpoint(optimizer, TrainState())
        return TrainState()

    def save_checkpoint(self, optimizer: AdamW, progress: TrainState) -> None:
        """Write weights, moments and step; the oldest checkpoints beyond `keep` go once this one is whole.

        Raises:
            FaultError: it cannot be written; those before it are kept.
        """
        state = {name: value.detach().cpu() for name, value in self._network.state_dict().items()}
        state |= {name: value.detach().cpu() for name, value in optimizer.masters().items()}
        moments = optimizer.state()
        arrays: dict[str, Array] = {"global_step": np.array(progress.step, np.int64)}
        arrays |= self._foreign(state, "")
        for moment in ("m", "v"):
            values = {name: moments[f"{moment}.{name}"].cpu() for name in _trained(moments)}
            arrays |= self._foreign(values, f"/adam_{moment}")
        name = f"model.ckpt-{progress.step}"
        logger.info("saving checkpoint %s", self.folder / name)
        try:
            with disk_errors(self.folder / name, 0):
                write_bundle(self.folder / name, arrays)
                if self._drops_by_example:
                    files.write_text(self.folder / f"{name}{_RECORD}", json.dumps(dropout_record(by_example=True)))
                self._list(name)
        except (InputError, FaultError) as error:
            raise FaultError(
                f"{error}; once that is mended the same command continues from the newest checkpoint"
            ) from error

    def _foreign(self, state: Mapping[str, Tensor], suffix: str) -> dict[str, Array]:
        return {f"{name}{suffix}": value.float().numpy() for name, value in to_theirs(self._names, state).items()}

    def _list(self, name: str) -> None:
        """Name the newest checkpoint in the file `checkpoint`, and remove the oldest of those named there."""
        file = self.folder / "checkpoint"
        before = _LISTED.findall(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else []
        listed = [*(other for other in before if other != name and "/" not in other), name]
        kept = listed[-self.keep :] if self.keep else listed
        lines = [f'model_checkpoint_path: "{name}"', *(f'all_model_checkpoint_paths: "{other}"' for other in kept)]
        write_text(file, "\n".join(lines) + "\n")
        for other in listed[: len(listed) - len(kept)]:
            for suffix in (".index", ".meta", ".data-00000-of-00001", _RECORD):
                (self.folder / f"{other}{suffix}").unlink(missing_ok=True)

    def save_best(self, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        """The original keeps no best model."""

    def curves(self, values: Mapping[str, float], step: int) -> None:
        """Add points to TensorBoard's curves, under the original's names, and say how the run goes."""
        if step % _EVERY == 0:
            rate = values.get("train/examples_per_second", 0.0)
            logger.info("step %d: loss = %.4f, %.1f examples/sec", step, values.get("train/loss", float("nan")), rate)
            self._curves.add({_CURVES[name]: value for name, value in values.items() if name in _CURVES}, step)

    def close(self) -> None:
        """Write what is left of the curves."""
        self._curves.close()

    def restore(self, optimizer: AdamW, prefix: Path, step: int) -> TrainState:
        """Take up a checkpoint's moments; the weights are in the network already."""
        bundle = TensorBundle(prefix)
        before = optimizer.state()
        state: dict[str, Tensor] = {"step": torch.tensor(step)}
        fresh = 0
        for moment in ("m", "v"):
            stored = {
                their: _tensor(bundle.read(key))
                for name in self._names
                for their in name.theirs
                if (key := _key(bundle, f"{their}/adam_{moment}"))
            }
            found, _, _ = to_ours(self._names, stored)
            for name in _trained(before):
                master = before[f"master.{name}"]
                state[f"master.{name}"] = master.clone()
                state[f"{moment}.{name}"] = found.get(name, torch.zeros_like(master)).to(master.device)
                fresh += name not in found
        if fresh:
            logger.warning("%s lacks %d of Adam's moments; they start at zero", prefix, fresh)
        optimizer.restore(state)
        return TrainState(step=step, epoch=step)


def _trained(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the weights that an optimizer's state has moments of."""
    return [name.removeprefix("m.") for name in state if name.startswith("m.")]


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all.

    Raises:
        FaultError: it cannot be written.
    """
    with disk_errors(path, 0):
        files.write_text(path, text)
