"""Data that comes through a pipe: kept in a temporary file, because readers go over their data more than once.

And what is said of files that are not there.
"""

import difflib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from bertune.errors import InputError
from bertune.files.atomic_write import is_special, unwritable
from bertune.files.pyarrow_package import require_pyarrow

_SNIFFED = 1 << 16  # bytes at the beginning from which the format is told


@contextmanager
def seekable(path: str, option: str) -> Iterator[Path]:
    """The path of a regular file with the data that `path` names; messages inside keep the name that the user wrote.

    Args:
        path: a file; "-" for standard input; a named pipe or a descriptor of the shell (`<(command)`, /dev/stdin),
            whose data is read to its end first. The format of piped data is told from its beginning: Parquet, gzip,
            a JSON list, JSON lines, else CSV or, where the first line holds a tab, TSV.
        option: what named it, for messages.

    Raises:
        InputError: a device that is no terminal or pipe; a pipe that cannot be read.
        FaultError: the disk of the temporary folder is full.
    """
    if path != "-" and not _is_pipe(Path(path), option):
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="bertune-") as folder:
        try:
            with Path(path).open("rb") if path != "-" else _standard_input() as stream:
                beginning = stream.read(_SNIFFED)
                copy = Path(folder) / f"input{_suffix(beginning)}"
                with copy.open("wb") as file:
                    file.write(beginning)
                    shutil.copyfileobj(stream, file, 1 << 20)
        except OSError as error:
            raise unwritable(error, f"{option} {path}: cannot be read: {error.strerror or error}") from None
        try:
            yield copy
        except InputError as error:
            name = "standard input" if path == "-" else path
            raise InputError(str(error).replace(str(copy), name)) from error


def refuse_pipe(path: Path) -> None:
    """Refuse what cannot be read twice, where data is read more than once: to hash it, to train on it, to resume.

    Raises:
        InputError: the path names a pipe or a device.
    """
    if is_special(path):
        raise InputError(
            f"{path}: is a pipe or a device, but this data is read more than once; write it to a file first"
        )


@contextmanager
def _standard_input() -> Iterator[IO[bytes]]:
    yield sys.stdin.buffer


def _is_pipe(path: Path, option: str) -> bool:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False  # refused by whoever opens it, in words of its kind
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        # A descriptor of a regular file (`< data.csv`) has no suffix, so it is copied as a pipe is.
        return str(path).startswith(("/dev/", "/proc/")) and not stat.S_ISDIR(mode)
    if stat.S_ISCHR(mode) and os.path.realpath(path) != os.devnull:
        with path.open("rb") as stream:
            if not stream.isatty():
                raise InputError(f"{option} {path}: is a device; give a file, a pipe or - for standard input")
    elif stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
        raise InputError(f"{option} {path}: is a device or a socket; give a file, a pipe or - for standard input")
    return True


def _suffix(beginning: bytes) -> str:
    """The suffix of the format that data begins like."""
    if beginning.startswith(b"PAR1"):
        return ".parquet"
    if beginning.startswith(b"\x1f\x8b"):
        import zlib

        unpacked = zlib.decompressobj(31).decompress(beginning, _SNIFFED)
        return _suffix(unpacked) + ".gz"
    if beginning.startswith(b"\x28\xb5\x2f\xfd"):
        require_pyarrow("zstd data")
        import pyarrow as pa

        with pa.CompressedInputStream(pa.BufferReader(beginning), "zstd") as stream:
            return _suffix(stream.read(_SNIFFED // 4)) + ".zst"
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return ".json"
    if text.startswith(b"{"):
        first_line = text.partition(b"\n")[0].rstrip()
        return ".jsonl" if first_line.endswith(b"}") else ".json"
    return ".tsv" if b"\t" in text.partition(b"\n")[0] else ".csv"


def no_such_file(path: Path) -> str:
    """What to say of a file that does not exist: a folder that is missing, or names that are near."""
    try:
        if not path.parent.is_dir():
            return f"no such file: there is no folder {path.parent}"
        names = {other.name.lower(): other.name for other in path.parent.iterdir()}
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return "no such file"
    near = [names[name] for name in difflib.get_close_matches(path.name.lower(), names, n=3, cutoff=0.6)]
    return "no such file" + (f"; did you mean {' or '.join(near)}?" if near else "")
