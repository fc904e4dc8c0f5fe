"""Released archives (.zip, .tar, .tar.gz) opened in place: unpacked to a temporary folder, with care.

Members are written one by one by our own hand, so that none climbs out of the folder, links elsewhere or grows beyond
what the archive may hold.
"""

import contextlib
import gzip
import io
import os
import re
import shutil
import stat
import struct
import tarfile
import tempfile
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from bertune.errors import InputError

MOST_BYTES = 64 << 30
"""What an archive may unpack to: a generous multiple of any encoder."""
_MOST_MEMBERS = 10_000
_HEADERS = _MOST_MEMBERS * 2048
"""Bytes that a tar archive may add around its members."""
_RATIO = 100
"""Weights hardly compress; a file that grows this much is a trap."""
_FREE_OF_RATIO = 256 << 20
_CHUNK = 1 << 20
_MARK = re.compile(r"saved_model\.pb|(bert_)?config\.json|[^.].*\.ckpt(-\d+)?\.index")


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its first bytes; its name does not matter."""
    return path.is_file() and _kind(path) is not None


def member_names(path: Path) -> Iterator[str]:
    """Names of an archive's members, as they come.

    Raises:
        InputError: it is damaged.
    """
    with _explained(path, "read"):
        if _kind(path) == "zip":
            with zipfile.ZipFile(path) as archive:
                yield from archive.namelist()
        else:
            with _open_tar(path, MOST_BYTES) as (tar, _):
                yield from (member.name for member in tar)


@contextlib.contextmanager
def opened(path: Path, into: Path | None = None, most_bytes: int = MOST_BYTES) -> Iterator[Path]:
    """The folder with the checkpoint that an archive holds, for as long as the context lasts.

    The folder is named like the archive where the archive has no folder of its own, as names tell the casing.

    Args:
        path: the archive; a folder is given back as it is.
        into: unpack to a new folder in this one and leave it there; by default a temporary one, removed at the end.
        most_bytes: refuse archives that unpack to more.

    Raises:
        InputError: no archive, a damaged or dangerous one, no checkpoint in it or several, no space.
    """
    if path.is_dir():
        yield path
        return
    kind = _kind(path) if path.is_file() else None
    if kind is None:
        raise InputError(f"{path}: {'neither a zip nor a tar archive' if path.is_file() else 'not found'}")
    with contextlib.ExitStack() as stack:
        if into is None:
            into = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bertune-")))
        root = into / (_stem(path.name) or "checkpoint")
        if root.exists():
            raise InputError(f"{path}: {root} already exists; use it, or remove it")
        under_way = into / f".{uuid.uuid4().hex}"
        try:
            _unpack(path, kind, under_way, most_bytes)
            _checkpoint_folder(under_way, path)
            under_way.rename(root)
        finally:
            shutil.rmtree(under_way, ignore_errors=True)
        yield _checkpoint_folder(root, path)


def _kind(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    if start.startswith(b"\x1f\x8b"):
        return "tar.gz"
    return "tar" if start[257:262] == b"ustar" else None


def _stem(name: str) -> str:
    for suffix in (".tar.gz", ".tgz", ".tar", ".zip"):
        name = name.removesuffix(suffix)
    return name.strip(". ")


@contextlib.contextmanager
def _explained(path: Path, aim: str) -> Iterator[None]:
    """What goes wrong with an archive, told for people."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"{path}: damaged archive: {error}. Download it again.") from error
    except (struct.error, RuntimeError, ValueError, LookupError, ArithmeticError) as error:  # of the parsers within
        raise InputError(f"{path}: cannot be {aim}: {error}") from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be {aim}: {error.strerror or error}. The environment variable TMPDIR chooses another "
            "folder for temporary files."
        ) from error


def _unpack(path: Path, kind: str, root: Path, most_bytes: int) -> None:
    most_bytes = min(most_bytes, max(_FREE_OF_RATIO, _RATIO * path.stat().st_size))
    with _explained(path, f"unpacked to {root.parent}"):
        root.mkdir(parents=True)
        (_unzip if kind == "zip" else _untar)(path, root, most_bytes)


def _unzip(path: Path, root: Path, most_bytes: int) -> None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_total(path, len(members), sum(member.file_size for member in members), most_bytes)
        for member in members:
            mode = member.external_attr >> 16
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise InputError(f"{path}: member {member.filename!r} is a link or device, which is not unpacked")
            if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise InputError(f"{path}: member {member.filename!r} has a compression that is not read here")
            target = _target(path, root, member.filename)
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            with archive.open(member) as source:
                _write(path, source, target, member.file_size)


@contextlib.contextmanager
def _open_tar(path: Path, most_bytes: int) -> Iterator[tuple[tarfile.TarFile, "_Limited"]]:
    """A tar archive, compressed or not, and the file of its plain bytes."""
    with contextlib.ExitStack() as stack:
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        plain = stack.enter_context(gzip.GzipFile(fileobj=file)) if _kind(path) == "tar.gz" else file
        limited = _Limited(plain, path, most_bytes)
        yield stack.enter_context(tarfile.open(fileobj=limited, mode="r:")), limited


def _untar(path: Path, root: Path, most_bytes: int) -> None:
    with _open_tar(path, most_bytes) as (archive, limited):
        total = count = 0
        for count, member in enumerate(archive, 1):
            total += member.size
            _check_total(path, count, total, most_bytes)
            if not (member.isreg() or member.isdir()) or member.issparse():
                raise InputError(f"{path}: member {member.name!r} is a link or device, which is not unpacked")
            target = _target(path, root, member.name)
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            source = archive.extractfile(member)
            if source is not None:
                _write(path, source, target, member.size)
        # tarfile takes a damaged header for the end, behind which there are but zeros, and gzip's checksum.
        while rest := limited.read(_CHUNK):
            if rest.strip(b"\0"):
                raise tarfile.ReadError(f"unreadable bytes after {count} members")


class _Limited(io.RawIOBase):
    """A file that gives `most` bytes at most, and few at a time: tarfile reads a header as large as it claims to be."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, path: Path, most: int) -> None:
        self._file, self._path, self._most = file, path, most

    def read(self, size: int = -1) -> bytes:
        position = self._file.tell()
        if size < 0 or size > 2 * _CHUNK or position + size > self._most + _HEADERS:
            raise InputError(f"{self._path}: asks for {size} bytes at byte {position} of what it unpacks to; refused")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _check_total(path: Path, members: int, size: int, most_bytes: int) -> None:
    if members > _MOST_MEMBERS:
        raise InputError(f"{path}: more than {_MOST_MEMBERS} members; a checkpoint has a handful")
    if size > most_bytes:
        raise InputError(
            f"{path}: claims to unpack to at least {size} bytes, more than the {most_bytes} allowed for an archive of "
            f"{path.stat().st_size} bytes"
        )


def _target(path: Path, root: Path, name: str) -> Path:
    """Where a member goes: inside `root`, or nowhere."""
    plain = PurePosixPath(name)
    windows = PureWindowsPath(name)
    if not name or plain.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name:
        raise InputError(f"{path}: member {name!r} would be written outside of its folder; nothing like it is unpacked")
    return root.joinpath(*windows.parts)


def _write(path: Path, source: IO[bytes], target: Path, size: int) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    try:
        with target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                if written > size:
                    break
                file.write(chunk)
    except FileExistsError as error:
        raise InputError(f"{path}: {target.name!r} is there twice, or was unpacked to {target} before") from error
    if written != size:
        raise InputError(f"{path}: member {target.name!r} claims {size} bytes, but holds {written} or more")


def _checkpoint_folder(root: Path, path: Path) -> Path:
    """The one folder below `root` that looks like a checkpoint."""
    found: list[Path] = []
    inside: list[str] = []
    for folder, folders, files in os.walk(root):
        folders.sort()
        inside.extend(files)
        if any(_MARK.fullmatch(name) for name in files):
            found.append(Path(folder))
            folders.clear()  # what lies deeper belongs to it
    if len(found) == 1:
        return found[0]
    listed = ", ".join(str(folder.relative_to(root)) for folder in found) or ", ".join(sorted(inside)[:8]) or "nothing"
    what = "several checkpoints; unpack it and name one" if found else "no checkpoint"
    raise InputError(f"{path}: holds {what}: {listed}")
