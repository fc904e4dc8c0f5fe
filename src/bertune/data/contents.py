"""What data consists of on disk: the files behind a path, and one hash over all of them.

A path may be a folder (a folder of texts for every class, brat's annotations), and a file may have labels or
annotations in a file of their own.
"""

import hashlib
from pathlib import Path

from bertune.data.formats.label_files import labels_file
from bertune.data.rows import check_file, file_sha256
from bertune.errors import InputError

State = tuple[int, ...]


def files_behind(path: Path) -> list[Path]:
    """All files that reading a path may read, in a fixed order: those of a folder, or a file and its side files.

    Raises:
        InputError: there is no such file or folder, or it cannot be listed.
    """
    if not path.is_dir():
        check_file(path)
        return [path, *_side_files(path)]
    try:
        return sorted(
            file
            for file in path.rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
        )
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error


def content_sha256(path: Path) -> str:
    """SHA-256 of a file; of a folder, or a file with side files, of the names and hashes of all of them.

    Raises:
        InputError: missing or unreadable files.
    """
    files = files_behind(path)
    if files == [path]:
        return file_sha256(path)
    root = path if path.is_dir() else path.parent
    return joined_sha256([f"{file.relative_to(root).as_posix()}\0{file_sha256(file)}" for file in files])


def joined_sha256(parts: list[str]) -> str:
    """One SHA-256 for several texts in order."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def state_of(path: Path) -> State:
    """Which files they are, how long, and when each was written last; empty where there is none."""
    try:
        found = [file.stat() for file in files_behind(path)]
    except (InputError, OSError, ValueError):  # ValueError: a NUL in the name
        return ()
    return tuple(number for one in found for number in (one.st_dev, one.st_ino, one.st_size, one.st_mtime_ns))


def _side_files(path: Path) -> list[Path]:
    """Files of labels or annotations that belong to a file."""
    labels = labels_file(path)
    found = [] if labels is None else [labels]
    brat = {".txt": ".ann", ".ann": ".txt"}.get(path.suffix.lower())
    if brat is not None and path.with_suffix(brat).is_file():
        found.append(path.with_suffix(brat))
    return found
