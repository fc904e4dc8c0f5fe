"""bertune.json: what a model is, as its folder says it."""

from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.model.presence import MODEL_FILE as MODEL_FILE  # noqa: PLC0414 (its home before)
from bertune.tasks.protocol import Task
from bertune.tasks.registry import task_from_json


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
