"""bertune.json: what a model is, as its folder says it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.model.presence import MODEL_FILE as MODEL_FILE  # noqa: PLC0414 (its home before)
from bertune.tasks.protocol import Task
from bertune.tasks.registry import task_from_json


def read_record(path: Path, trust_task_file: str | Path | None = None) -> tuple[dict[str, Any], Task[Any], int]:
    """bertune.json, the task it describes, and the longest sequence.

    Data that were named by a path from another working directory are named by one that finds them from this one.

    Raises:
        InputError: not as bertune wrote it, or a task file that was not given.
    """
    record = read_json(path)
    if isinstance(data := record.get("data"), dict):
        record["data"] = data_from(data, path.parent)
    described, length = record.get("task"), record.get("max_seq_length")
    if not isinstance(described, dict) or not isinstance(length, int):
        raise InputError(f"{path}: lacks its task or max_seq_length; it is not as bertune wrote it")
    try:
        return record, task_from_json(described, trust_task_file), length
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its task is not as bertune wrote it ({type(error).__name__}: {error})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


_PLACE = "from_folder"
"""Where data lie as seen from the model's folder, of data that were named from the working directory."""


def data_placed(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a model's record says of its data, with paths by which they are found from any working directory.

    Paths from the model's folder, not absolute ones: a folder that is handed on shows nobody's home.
    """

    def placed(one: Any) -> Any:
        if not isinstance(one, Mapping):
            return one
        told = dict(one)
        if "files" in told:
            told["files"] = [placed(part) for part in told["files"]]
        file = Path(str(told.get("file", "")))
        if not file.is_absolute() and file.exists():
            told[_PLACE] = os.path.relpath(file, folder)
        return told

    return {role: placed(one) for role, one in data.items()}


def data_from(data: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """What a record says of its data, with their paths as they are found from the working directory of now.

    Args:
        data: see `data_placed`; of records without its paths nothing changes.
        folder: the model's; None: only leave out what `data_placed` added.
    """

    def found(one: Any) -> Any:
        if not isinstance(one, Mapping):
            return one
        told = dict(one)
        place = told.pop(_PLACE, None)
        if "files" in told:
            told["files"] = [found(part) for part in told["files"]]
        if place is None or folder is None or Path(str(told.get("file"))).exists():
            return told
        if (folder / place).exists():
            told["file"] = os.path.normpath(folder / place)
        return told

    return {role: found(one) for role, one in data.items()}
