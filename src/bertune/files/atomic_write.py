"""Files that are there whole or not at all: written beside, synced to disk, renamed."""

import errno
import os
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bertune.errors import FaultError, InputError

SAVED = ".saved"
"""In a folder: a whole set of files that is being moved into it."""


_SYNC_MODE = os.O_RDWR if sys.platform == "win32" else os.O_RDONLY
"""Windows syncs only what is open for writing."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def is_disk_fault(error: OSError) -> bool:
    """Whether the disk is full, read-only or broken: a fault of the machine, whatever path was named."""
    return error.errno in _DISK


def unwritable(error: OSError, message: str) -> FaultError | InputError:
    """What to raise where a file cannot be written: for faults of the disk a FaultError, else the path is bad input."""
    return FaultError(message) if is_disk_fault(error) else InputError(message)


def sync(path: Path) -> None:
    """Have the system write a file or a folder's list of names to disk now.

    Windows cannot open folders, and some network disks refuse to sync them; there it is left out.
    """
    try:
        handle = os.open(path, _SYNC_MODE)
    except OSError as error:
        if path.is_dir() and isinstance(error, PermissionError | IsADirectoryError):
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; what was there before stays until the new one is on disk.

    Symbolic links are followed; a pipe or device is written to.

    Raises:
        OSError: it cannot be written; the old one is there still.
    """
    if is_special(path):
        path.write_text(text, encoding="utf-8")
        return
    with replaced(path) as stream:
        stream.write(text.encode())
    sync(Path(os.path.realpath(path)).parent)


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """A stream to a new file that takes the place of `path`, links followed, when the block ends without an error.

    It has the permissions of the file that it replaces.

    Raises:
        OSError: it cannot be written; the old file is still there.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".writing-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Whether a path names something that is there and is neither a regular file nor a folder: a pipe, a device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def sync_tree(folder: Path) -> None:
    """`sync` for everything in a folder, and itself."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


def publish(beside: Path, folder: Path, last: Sequence[str]) -> None:
    """Move a set of files into a folder, over those of the same names.

    The set is first synced and renamed to `SAVED` as a whole. A process that is killed between two files leaves the
    rest there, for `finish_publishing`.

    Args:
        beside: folder of the new files, in `folder`.
        folder: where they belong.
        last: the files that are moved after all others, in this order.
    """
    sync_tree(beside)
    finish_publishing(folder, last)
    beside.rename(folder / SAVED)
    sync(folder)
    finish_publishing(folder, last)


def finish_publishing(folder: Path, last: Sequence[str]) -> None:
    """Move the files that a `publish` which was cut off left; without any nothing happens."""
    saved = folder / SAVED
    if not saved.is_dir():
        return
    names = [str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()]
    for name in sorted(names, key=lambda name: last.index(name) if name in last else -1):
        (folder / name).parent.mkdir(exist_ok=True)
        (saved / name).replace(folder / name)
    shutil.rmtree(saved)
    sync(folder)
