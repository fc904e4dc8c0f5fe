"""JSON from files and texts that nobody vouches for."""

import json
from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.files.text_files import small_file


def parse_json(data: str | bytes) -> Any:
    """What a JSON text says.

    Raises:
        json.JSONDecodeError: not JSON.
        ValueError: not UTF-8, brackets nested thousands deep, a number of thousands of digits.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("brackets nested thousands deep") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except ValueError as error:
        raise ValueError(str(error).partition("; use sys.")[0]) from None  # without advice for programmers


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file in UTF-8, with or without a byte order mark.

    Raises:
        InputError: no such file, not UTF-8, not JSON, or not an object.
    """
    value = _value(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: must hold a JSON object, but holds {type(value).__name__}")
    return value


def read_json_list(path: Path) -> list[Any]:
    """A JSON array from a file, otherwise as `read_json`.

    Raises:
        InputError: no such file, not UTF-8, not JSON, or not an array.
    """
    value = _value(path)
    if not isinstance(value, list):
        raise InputError(f"{path}: must hold a JSON array, but holds {type(value).__name__}")
    return value


def _value(path: Path) -> Any:
    try:
        return parse_json(small_file(path).decode("utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None
