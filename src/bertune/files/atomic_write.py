"""Files that are there whole or not at all: written beside, synced to disk, renamed."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from bertune.errors import FaultError, InputError

SAVED = ".saved"
"""In a folder: a whole set of files that is being moved into it."""


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def is_disk_fault(error: OSError) -> bool:
    """Whether the disk is full, read-only or broken: a fault of the machine, whatever path was named."""
    return error.errno in _DISK


def unwritable(error: OSError, message: str) -> FaultError | InputError:
    """What to raise where a file cannot be written: for faults of the disk a FaultError, else the path is bad input."""
    return FaultError(message) if is_disk_fault(error) else InputError(message)


def sync(path: Path) -> None:
    """Have the system write a file or a folder's list of names to disk now.

    Some network disks know no such thing of folders; there it is left out.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in (errno.EINVAL, errno.ENOTSUP)):
            raise
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8; what was there before stays until the new one is on disk.

    Raises:
        OSError: it cannot be written; the old one is there still.
    """
    beside = path.with_name(path.name + ".writing")
    try:
        beside.write_text(text, encoding="utf-8")
        sync(beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync(path.parent)


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
