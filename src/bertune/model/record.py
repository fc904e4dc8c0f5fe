"""bertune.json: what a model is, as its folder says it."""

from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.files.atomic_write import SAVED
from bertune.files.json_files import read_json
from bertune.tasks.protocol import Task
from bertune.tasks.registry import task_from_json

MODEL_FILE = "bertune.json"
"""What a model is: task, options, hashes."""


def require_model(folder: Path, option: str = "--model") -> None:
    """Refuse a folder that holds no model.

    Args:
        folder: that is to hold one.
        option: what named it, for the message; empty: it was named without an option.

    Raises:
        InputError: there is none.
    """
    if (folder / MODEL_FILE).is_file() or (folder / SAVED / MODEL_FILE).is_file():
        return
    named = f"{option} {folder}".strip()
    if not folder.exists():
        raise InputError(f"{named}: there is no such folder")
    kind = f"{MODEL_FILE} is missing" if folder.is_dir() else "it is a file"
    raise InputError(f"{named}: holds no bertune model ({kind}); train one first")


def read_record(path: Path, trust_task_file: str | Path | None = None) -> tuple[dict[str, Any], Task[Any], int]:
    """bertune.json, the task it describes, and the longest sequence.

    Raises:
        InputError: not as bertune wrote it, or a task file that was not given.
    """
    record = read_json(path)
    described, length = record.get("task"), record.get("max_seq_length")
    if not isinstance(described, dict) or not isinstance(length, int):
        raise InputError(f"{path}: lacks its task or max_seq_length; it is not as bertune wrote it")
    try:
        return record, task_from_json(described, trust_task_file), length
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its task is not as bertune wrote it ({type(error).__name__}: {error})") from None
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
