"""Rows of a .json file: an array of objects, read as a stream; `{"data": […]}`; or columns, as pandas writes.

Columns of lists (`{"text": […], "label": […]}`) and of objects by index (`{"text": {"0": …}}`) are read whole.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from bertune.data.rows import Row
from bertune.errors import InputError, Problems
from bertune.files.json_files import parse_json
from bertune.files.text_files import MAX_RECORD, blocks

_BETWEEN = re.compile(r"[\s,]*")
_LISTS = ("data", "rows", "examples", "items", "records", "train", "instances")
"""Keys under which a list of rows lies."""


def is_lines(head: str) -> bool:
    """Whether a text begins with a JSON value on a line of its own, and another one after it."""
    lines = [line for line in head.lstrip("\ufeff").split("\n", 64) if line.strip()]
    if not lines or not lines[0].lstrip().startswith("{"):
        return False
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        return False
    return len(lines) > 1 or not _is_whole(json.loads(lines[0]))


def _is_whole(value: object) -> bool:
    """Whether a single object holds rows rather than being one."""
    if not isinstance(value, dict) or not value:
        return False
    return any(isinstance(value.get(key), list) for key in _LISTS) or _is_columns(value)


def _is_columns(value: dict[str, object]) -> bool:
    parts = list(value.values())
    if all(isinstance(part, dict) and part for part in parts):
        return len({tuple(part) for part in parts if isinstance(part, dict)}) == 1
    return (
        len(parts) > 1
        and all(isinstance(part, list) for part in parts)
        and len({len(part) for part in parts if isinstance(part, list)}) == 1
    )


def open_json(path: Path, gzipped: bool, encoding: str) -> tuple[str, Callable[[], Iterator[Row]]]:
    """What a row's number counts, and what reads the rows.

    Raises:
        InputError: The file is not JSON, or holds no rows.
    """
    head = next((text for _, text in blocks(path, gzipped, Problems(), encoding)), "").lstrip("\ufeff \r\n\t")
    if head.startswith("["):
        return "line", lambda: (Row(line, _object(path, line, item)) for line, item in items(path, gzipped, encoding))
    whole = _parsed(path, "".join(text for _, text in blocks(path, gzipped, Problems(), encoding)))
    rows = _rows_of(path, whole)
    return "row", lambda: (Row(number, _object(path, number, row)) for number, row in enumerate(rows, 1))


def _rows_of(path: Path, whole: object) -> list[object]:
    if isinstance(whole, dict):
        for key in _LISTS:
            if isinstance(whole.get(key), list):
                rows: list[object] = whole[key]
                return rows
        if _is_columns(whole):
            columns = [list(part.values()) if isinstance(part, dict) else part for part in whole.values()]
            return [dict(zip(whole, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return [whole]
    raise InputError(f"{path}: expected a list of objects, found {type(whole).__name__}")


def _object(path: Path, line: int, item: object) -> dict[str, object]:
    if not isinstance(item, dict):
        raise InputError(f"{path}, line {line}: one JSON object is expected for every row, not {str(item)[:40]}")
    return item


def _parsed(path: Path, text: str) -> object:
    try:
        return parse_json(text.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}, column {error.colno}: not JSON: {error.msg}") from None
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as JSON: {error}") from None


def items(path: Path, gzipped: bool, encoding: str = "utf-8") -> Iterator[tuple[int, object]]:
    """Line and value of every item of a JSON array; holds one item at a time.

    Raises:
        InputError: The file is not a JSON array.
    """
    decoder = json.JSONDecoder()
    problems = Problems()
    stream = blocks(path, gzipped, problems, encoding)
    text, at, line = "", 0, 1
    opened = False
    while True:
        at_item = _BETWEEN.match(text, at).end()  # type: ignore[union-attr]
        line += text.count("\n", at, at_item)
        at = at_item
        try:
            if at == len(text):
                raise ValueError("the end")
            if not opened:
                opened, at = text[at] == "[", at + 1
                if not opened:
                    raise InputError(f"{path}: expected a JSON array")
                continue
            if text[at] == "]":
                break
            value, end = decoder.raw_decode(text, at)
            if end == len(text) and text[end - 1 : end] not in ']}"':  # a number may go on in the next part
                raise ValueError("perhaps more digits")
        except RecursionError:
            raise InputError(f"{path}, line {line}: brackets nested thousands deep") from None
        except ValueError as error:
            more = next(stream, None)
            if more is None or len(text) - at > MAX_RECORD:
                problems.raise_if_any()
                raise InputError(_broken(path, line, text, at, error)) from None
            text, at = text[at:] + more[1].removeprefix("\ufeff"), 0
            continue
        problems.raise_if_any()
        yield line, value
        line += text.count("\n", at, end)
        at = end


def _broken(path: Path, line: int, text: str, at: int, error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{path}, line {line + text.count(chr(10), at, error.pos)}: not JSON: {error.msg}"
    return f"{path}, line {line}: not JSON: the file ends in the middle of an array"
