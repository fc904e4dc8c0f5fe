"""The text of a vocab.txt: one token a line."""

from pathlib import Path

from bertune.errors import InputError
from bertune.files.text_files import small_file


def vocabulary_lines(text: str) -> tuple[str, ...]:
    """The lines of a vocab.txt without their ends; blank ones at the end of the file, which stand for nothing, go."""
    lines = [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(lines)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The lines of a `vocab.txt`, without their ends; see `vocabulary_lines`.

    Raises:
        InputError: it cannot be read or is not UTF-8.
    """
    try:
        return vocabulary_lines(small_file(path).decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8: {error.reason} in {error.object[:40]!r}") from error
