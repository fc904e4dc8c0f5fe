"""What reading rows comes to, for tests."""

from pathlib import Path

import pytest

from bertune.data.rows import RowFile, open_rows
from bertune.errors import InputError


def plain(file: RowFile) -> list[tuple[int, list[object]]]:
    """Line and values of all rows, whose columns must be those of the file."""
    found = list(file)
    assert all(list(row.values) == file.columns for row in found)
    return [(row.line, list(row.values.values())) for row in found]


def problem(path: Path, **options: object) -> str:
    """What is told when a file is opened and read."""
    with pytest.raises(InputError) as error:
        list(open_rows(path, **options))  # type: ignore[arg-type]
    return str(error.value)
