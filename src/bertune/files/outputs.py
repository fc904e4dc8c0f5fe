"""Files that a user names as output: regular files are replaced atomically, anything else is written to.

A path may name a regular file (new, or replaced once the new one is complete), a symbolic link (followed), a device
node, a named pipe, or a descriptor of the shell (`/dev/stdout`, `>(command)`); "-" is standard output.
"""

import errno
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bertune.errors import InputError
from bertune.files.atomic_write import replaced, unwritable

_DESCRIPTOR = re.compile(r"/(?:dev|proc/[^/]+)/fd/(\d+)")
_MOST_LINKS = 40  # as Linux follows at most


@contextmanager
def open_output(path: str | Path, option: str = "--output") -> Iterator[IO[bytes]]:
    """A binary stream to a file that the user named; see the module.

    A regular file is written under a temporary name in the same folder and renamed at the end, so that after an error
    the old content is still there. It keeps its permissions.

    Args:
        path: the file; "-" is standard output.
        option: what named it, for messages.

    Raises:
        InputError: a folder, a path in a folder that does not exist, or one that may not be written.
        FaultError: the disk is full or broken.
        BrokenPipeError: nobody reads any more at the other end of a pipe.
    """
    try:
        if str(path) == "-":
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        elif (descriptor := _descriptor(Path(path))) is not None:
            with os.fdopen(os.dup(descriptor), "wb") as stream:
                yield stream
        elif _is_regular_or_new(Path(path), option):
            with replaced(Path(path)) as stream:
                yield stream
        else:
            with os.fdopen(os.open(path, os.O_WRONLY), "wb") as stream:
                yield stream
    except BrokenPipeError:
        raise
    except OSError as error:
        named = "standard output" if str(path) == "-" else f"{option} {path}"
        raise unwritable(error, f"{named}: cannot be written: {error.strerror or error}") from None


def check_output(path: str | Path, option: str = "--output") -> None:
    """Refuse, before any long work, a path that `open_output` would refuse.

    Raises:
        InputError: a folder, a socket, a path in a folder that does not exist.
    """
    if str(path) != "-" and _descriptor(Path(path)) is None:
        _is_regular_or_new(Path(path), option)


def link_to_nothing(path: Path, option: str = "--output") -> str | None:
    """The message for a folder that is a link whose target is not there; None for any other path."""
    if not path.is_symlink() or path.exists():
        return None
    return f"{option} {path}: is a link to {path.readlink()}, which is not there; make that folder first"


def refuse_inputs(path: str | Path, inputs: Iterable[Path], option: str = "--output") -> None:
    """Refuse an output that is one of the files which are read.

    Raises:
        InputError: naming it.
    """
    if str(path) == "-" or _descriptor(Path(path)) is not None:
        return
    for one in inputs:
        try:
            same = one.is_file() and one.samefile(path)
        except (OSError, ValueError):
            continue  # one of them is not there
        if same:
            raise InputError(f"{option} {path}: is the input itself, which would be lost; name another file")


def _is_regular_or_new(path: Path, option: str) -> bool:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        parent = Path(os.path.realpath(path)).parent
        if not parent.is_dir():
            raise InputError(f"{option} {path}: there is no folder {parent}") from None
        return True
    except ValueError:  # a NUL in the name
        raise InputError(f"{option} {str(path)!r}: is not a file name") from None
    except OSError as error:  # links in a circle, a name that is too long, a folder that may not be entered
        raise InputError(f"{option} {path}: cannot be written: {error.strerror or error}") from None
    if stat.S_ISDIR(mode):
        raise InputError(f"{option} {path}: is a folder; name a file in it")
    if stat.S_ISSOCK(mode):
        raise InputError(f"{option} {path}: is a socket; name a file, a pipe or -")
    return stat.S_ISREG(mode)


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that a path such as /dev/stdout leads to; None for other paths."""
    for _ in range(_MOST_LINKS):
        here = Path(os.path.realpath(path.parent)) / path.name
        found = _DESCRIPTOR.fullmatch(str(here))
        if found and str(here.parent) in ("/dev/fd", f"/proc/{os.getpid()}/fd"):
            try:
                os.fstat(int(found[1]))
            except OSError as error:
                raise OSError(errno.ENOENT, "no such open descriptor") from error
            return int(found[1])
        try:
            if not here.is_symlink():
                return None
        except OSError:  # a name that is too long: whoever opens it says so
            return None
        path = here.parent / here.readlink()
    return None
