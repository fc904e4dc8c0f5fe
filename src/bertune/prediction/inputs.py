"""What `--input` names: one file, all files of a folder, those that match a pattern, or standard input."""

import glob
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.files.atomic_write import is_special
from bertune.files.inputs import no_such_file, seekable
from bertune.files.text_files import plain_suffix

SUFFIXES = (".csv", ".tsv", ".tab", ".psv", ".txt", ".jsonl", ".ndjson", ".json", ".parquet", ".arrow", ".feather")
"""Files of a folder that hold rows (also with .gz and .zst)."""


@dataclass(frozen=True)
class InputFile:
    """A file to read. name: what the user calls it, for messages and records."""

    path: Path
    name: str

    def described(self) -> dict[str, Any]:
        """Name, size and SHA-256, to recognise it when a run is resumed."""
        if self.path.is_dir():
            digest = hashlib.sha256()
            for path in sorted(self.path.rglob("*")):
                if path.is_file():
                    digest.update(f"{path.relative_to(self.path)}\0{file_sha256(path)}\n".encode())
            return {"name": self.name, "sha256": digest.hexdigest()}
        return {"name": self.name, "bytes": self.path.stat().st_size, "sha256": file_sha256(self.path)}


@contextmanager
def input_files(spec: str, option: str = "--input") -> Iterator[list[InputFile]]:
    """The files that an option names, in the order of their names.

    Args:
        spec: a file; a pattern (`data/*.jsonl`, `data/**/*.csv`); a folder, whose files with a known suffix are taken,
            those of its folders too; a pipe; or "-" for standard input.
        option: what named it, for messages.

    Raises:
        InputError: there is none.
    """
    path = Path(spec)
    if spec != "-" and not _exists(path) and glob.has_magic(spec):
        found = sorted(Path(one) for one in glob.glob(spec, recursive=True) if Path(one).is_file())  # noqa: PTH207 (a pattern of any path)
        if not found:
            raise InputError(f"{option} {spec}: no file matches this pattern")
        yield [InputFile(one, str(one)) for one in found]
        return
    if spec != "-" and not _exists(path):
        raise InputError(f"{option} {spec}: {no_such_file(path)}")
    if spec != "-" and path.is_dir():
        yield _of_folder(path)
        return
    with seekable(spec, option) as copy:
        yield [InputFile(copy, "standard input" if spec == "-" else spec)]


def is_stream(spec: str) -> bool:
    """Whether an option names data that can be read once only."""
    return spec == "-" or is_special(Path(spec))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a NUL in the name
        return False


def _of_folder(folder: Path) -> list[InputFile]:
    """Files of rows in a folder; where it holds none, the folder itself, which may be of a form that tasks know."""
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and plain_suffix(path) in SUFFIXES
        and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)
    )
    tables = [path for path in found if plain_suffix(path) != ".txt"]
    # Folders of .txt alone may be a folder per class or brat's.
    return [InputFile(one, str(one)) for one in tables] or [InputFile(folder, str(folder))]
