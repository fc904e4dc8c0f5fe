"""A finished run as what one hands on: the model without checkpoints, curves, runs of single seeds and reports."""

import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bertune.errors import InputError
from bertune.files.atomic_write import unwritable
from bertune.files.json_files import read_json
from bertune.files.outputs import open_output
from bertune.model.presence import MODEL_FILE, require_model

_SUFFIXES = frozenset({".json", ".safetensors", ".txt", ".md", ".yaml", ".model"})
_OF_THE_RUN = frozenset({"seeds.json", "tries.json", "before.json", "sweep.json", "comparison.json", "report.json"})
_MODULE = re.compile(r"\d+_\w+|onnx")
"""Folders that belong to a model: modules of sentence-transformers, an exported graph."""
_DENSE = frozenset({".safetensors", ".onnx"})
"""Files of numbers, which compression makes hardly smaller."""


@dataclass(frozen=True)
class Packed:
    """What was packed. size: bytes of the packed files.  before: of the whole run.  task_file: needed to use it."""

    output: Path
    files: int
    size: int
    before: int
    task_file: str | None = None


def pack(folder: Path, output: Path) -> Packed:
    """Copy the model of a run into a .zip file or a new folder.

    Args:
        folder: that `bertune train` left.
        output: a name that ends in .zip, or a folder that does not exist yet.

    Raises:
        InputError: no model there, or an output that exists or cannot be written.
        FaultError: the disk is full or broken.
    """
    require_model(folder, "")
    files = sorted(model_files(folder))
    if output.suffix.lower() == ".zip":
        _zip(folder, files, output)
    elif output.exists():
        raise InputError(f"--output {output}: already exists; name a new folder, or a file that ends in .zip")
    else:
        _copy(folder, files, output)
    name = str(read_json(folder / MODEL_FILE).get("task", {}).get("name", ""))
    before = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    size = sum(path.stat().st_size for path in files)
    return Packed(output, len(files), size, before, name.rpartition(":")[0] if ".py:" in name else None)


def model_files(folder: Path) -> Iterator[Path]:
    """The files of a run's folder that its model needs, and that tell how it was made."""
    for path in folder.iterdir():
        if path.is_file() and path.suffix in _SUFFIXES and path.name not in _OF_THE_RUN and path.name[0] != ".":
            yield path
        elif path.is_dir() and _MODULE.fullmatch(path.name):
            yield from (inner for inner in path.rglob("*") if inner.is_file())


def _zip(folder: Path, files: list[Path], output: Path) -> None:
    with open_output(output) as stream, zipfile.ZipFile(stream, "w") as archive:
        for path in files:
            name = Path(folder.resolve().name) / path.relative_to(folder)
            kind = zipfile.ZIP_STORED if path.suffix in _DENSE else zipfile.ZIP_DEFLATED
            archive.write(path, name, compress_type=kind)


def _copy(folder: Path, files: list[Path], output: Path) -> None:
    try:
        beside = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.absolute().parent))
        try:
            for path in files:
                target = beside / path.relative_to(folder)
                target.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, target)
            beside.chmod(0o755)
            beside.rename(output)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise unwritable(error, f"--output {output}: cannot be written: {error.strerror or error}") from None
