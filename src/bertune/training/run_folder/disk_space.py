"""How much disk a run needs, checked before it starts; sizes for people."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from bertune.errors import FaultError

_BESIDES = 16 << 20
"""Bytes for the tokenizer's files, curves and records."""


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of all tensors together. Shape: any."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def shown(size: int) -> str:
    """Bytes as a person reads them: "1.3 GB"."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"


def free_at(path: Path) -> int | None:
    """Bytes that a file at this place may take up; None where the disk does not tell."""
    while not os.path.exists(path) and path != path.parent:  # noqa: PTH110 (unlike Path.exists it never raises)
        path = path.parent
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return None


def check_disk_space(folder: Path, checkpoint: int, model: int, keep: int, further: int = 0) -> None:
    """See whether a run's files find room on the disk of its output folder.

    A new checkpoint is written beside one that stays, a new best model beside the one that it replaces.

    Args:
        folder: the output folder, there already or not.
        checkpoint: bytes of one.
        model: bytes of the model's weights.
        keep: checkpoints that stay.
        further: runs of the same size that are to follow on the same disk; what each leaves there counts too.

    Raises:
        FaultError: they do not; with the numbers.
        OSError: what lies there cannot be looked at.
    """
    checkpoints = max(keep, 2)
    needed = checkpoints * checkpoint + 2 * model + _BESIDES
    needed += further * (keep * checkpoint + model + _BESIDES)
    there = sum(path.stat().st_size for path in folder.glob("checkpoints/*/*") if path.is_file())
    there += sum(path.stat().st_size for path in folder.glob("model.safetensors"))
    free = free_at(folder)
    if free is not None and needed - there > free:
        runs = f"; runs to follow: {further}, each leaving {keep} checkpoints and a model" if further else ""
        raise FaultError(
            f"--output {folder}: this run needs {shown(needed - there)} on its disk, and {shown(free)} are free: "
            f"{checkpoints} checkpoints of {shown(checkpoint)} (--keep-checkpoints {keep}; a new one is written "
            f"before an old one is deleted), the best model of {shown(model)} and the next one beside it{runs}. "
            "Make room, or name a folder on another disk"
        )
