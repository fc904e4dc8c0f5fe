"""The run folder: checkpoints for resuming, the best model, curves, and run.yaml that repeats the run."""

import dataclasses
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.progress import Curves
from bertune.training.optimizer import AdamW
from bertune.training.parts import Progress

logger = logging.getLogger(__name__)

SaveModel = Callable[[Mapping[str, Tensor], Mapping[str, float]], None]


class RunFolder:
    """Keeps a run in its output folder."""

    def __init__(self, folder: Path, save_model: SaveModel) -> None:
        self.folder = folder
        self._save_model = save_model
        self._curves = Curves(folder / "logs")

    def save_best(self, weights: Mapping[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Write the model folder at the top of the run."""
        self._save_model(weights, metrics)

    def curves(self, values: Mapping[str, float], step: int) -> None:
        """Add points to TensorBoard's curves."""
        self._curves.add(values, step)

    def save_checkpoint(self, optimizer: AdamW, progress: Progress) -> None:
        """Write weights, moments, random generators and progress; older checkpoints go once this one is whole."""
        checkpoints = self.folder / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=checkpoints))
        tensors = optimizer.state() | random_state()
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, beside / "state.safetensors"
        )
        described = {"progress": dataclasses.asdict(progress), "sha256": file_sha256(beside / "state.safetensors")}
        (beside / "progress.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
        target = checkpoints / f"step-{progress.step:08d}"
        old = [path for path in checkpoints.iterdir() if path != beside]
        if target.exists():
            shutil.rmtree(target)
        beside.rename(target)
        for path in old:
            if path != target:
                shutil.rmtree(path, ignore_errors=True)

    def load_checkpoint(self, optimizer: AdamW) -> Progress:
        """Take up the newest whole checkpoint: weights, moments, random generators.

        Raises:
            InputError: there is none.
        """
        for path in sorted((self.folder / "checkpoints").glob("step-*"), reverse=True):
            try:
                described = json.loads((path / "progress.json").read_text(encoding="utf-8"))
                if file_sha256(path / "state.safetensors") != described["sha256"]:
                    raise ValueError("its SHA-256 does not match")
                tensors = load_file(path / "state.safetensors")
                progress = Progress(**described["progress"])
                optimizer.restore(tensors)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s: damaged (%s); looking for the one before", path, error)
                continue
            restore_random_state(tensors)
            return progress
        raise InputError(
            f"--resume: {self.folder} holds no whole checkpoint to go on from; train anew into a new folder"
        )

    def close(self) -> None:
        """Write what is left of the curves."""
        self._curves.close()


def random_state() -> dict[str, Tensor]:
    """State of PyTorch's random generators, as named tensors."""
    state = {"random.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["random.cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Take up what `random_state` gave."""
    torch.set_rng_state(state["random.cpu"])
    if "random.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random.cuda"])
