"""Text files, plain or compressed (gzip, zstd), as streams in bounded memory; bytes that are no text are reported."""

import codecs
import gzip
import io
import itertools
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from bertune.errors import InputError, Problems
from bertune.files.pyarrow_package import require_pyarrow

_CHUNK = 1 << 20  # bytes read at a time
MAX_RECORD = 64 << 20
"""Bytes of one line, and about that of one quoted record: more is a broken file or a bomb."""
_RATIO = 100
"""Text packs to a third or a tenth; what unpacks to more than this many times its size is a bomb."""
_FREE_OF_RATIO = 4 << 20
_MAGIC = {
    codecs.BOM_UTF16_LE: "it is UTF-16 or UTF-32; save it as UTF-8",  # the mark of UTF-32-LE begins with this one
    codecs.BOM_UTF16_BE: "it is UTF-16; save it as UTF-8",
    codecs.BOM_UTF32_BE: "it is UTF-32; save it as UTF-8",
    b"\x1f\x8b": "it is gzipped; add .gz to its name",
    b"\x28\xb5\x2f\xfd": "it is compressed with zstd; add .zst to its name",
    b"PK\x03\x04": "it is a ZIP archive or a spreadsheet; export it as CSV in UTF-8",
}


LARGEST_SETTINGS = 128 << 20
"""Bytes of a vocabulary or a file of settings, which are read whole; the largest in use have a third of it."""


def small_file(path: Path) -> bytes:
    """The bytes of a vocabulary or a file of settings.

    Raises:
        OSError: it cannot be read.
        InputError: it is too large to be one.
    """
    if (size := path.stat().st_size) > LARGEST_SETTINGS:
        raise InputError(f"{path}: {size} bytes; no vocabulary or file of settings has more than {LARGEST_SETTINGS}")
    return path.read_bytes()


COMPRESSED = (".gz", ".zst")
"""Suffixes of compressed files that are read in place."""


def is_compressed(path: Path) -> bool:
    """Whether a file's name says that it is compressed with gzip or zstd."""
    return path.name.lower().endswith(COMPRESSED)


def plain_suffix(path: Path) -> str:
    """The suffix of a file's name in lower case, without .gz or .zst."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz").removesuffix(".zst")).suffix


class _Unpacked(io.RawIOBase):
    """The bytes of a compressed file, up to a bound that no text reaches."""

    def __init__(self, path: Path) -> None:
        self._path, self._total = path, 0
        self._packed = path.open("rb")
        zstd = path.suffix.lower() == ".zst"
        self._file: Any = _zstd(self._packed) if zstd else gzip.GzipFile(fileobj=self._packed)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count: int = self._file.readinto(buffer)
        self._total += count
        if self._total > max(_FREE_OF_RATIO, _RATIO * self._packed.tell()):
            raise InputError(
                f"{self._path}: its first {self._packed.tell() >> 10} KiB unpack to {self._total >> 20} MiB, over "
                f"{_RATIO} times as much, as no text does; refused. If it is sound, unpack it by hand"
            )
        return count

    def close(self) -> None:
        self._file.close()
        self._packed.close()
        super().close()


def _zstd(packed: IO[bytes]) -> IO[bytes]:
    require_pyarrow(getattr(packed, "name", "zstd data"))
    import pyarrow as pa

    file: IO[bytes] = pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
    return file


def open_bytes(path: Path, gzipped: bool) -> IO[bytes]:
    """A file's bytes to read, unpacked: with zstd where its name ends in .zst, else with gzip.

    Raises:
        OSError: it cannot be opened.
        InputError: while reading, when it unpacks to far more than text does.
    """
    return io.BufferedReader(_Unpacked(path), _CHUNK) if gzipped else path.open("rb")


def lines(path: Path, gzipped: bool, problems: Problems, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Number and text of every line, without its end, as a stream. What is no text is added to `problems`.

    Lines end in LF or CR LF; in a file without LF, as old programs of the Macintosh write it, in CR.

    Args:
        path: The file.
        gzipped: Whether to unpack it.
        problems: Takes what is wrong.
        encoding: Name of a Python codec.

    Raises:
        InputError: the file cannot be read, or has a line longer than MAX_RECORD.
    """
    for first, text in blocks(path, gzipped, problems, encoding):
        text = text.replace("\r\n", "\n") if "\r" in text else text
        yield from enumerate(text.removesuffix("\n").split("\n"), first)


def blocks(path: Path, gzipped: bool, problems: Problems, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """Whole lines, many at a time, with the number of the first; otherwise as `lines`."""
    if encoding != "utf-8":
        yield from _blocks_in(path, gzipped, problems, encoding)
        return
    line, offset, size = 1, 0, 0
    held: list[bytes] = []  # the beginning of a line that goes on in the next chunk
    for chunk in _with_lf(chunks(path, gzipped)):
        if offset == 0 and not held and (text := [_MAGIC[magic] for magic in _MAGIC if chunk.startswith(magic)]):
            raise InputError(f"{path} is not text in UTF-8: {text[0]}")
        size += len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if not cut:
            held.append(chunk)
        else:
            data = b"".join([*held, chunk[:cut]])
            yield line, _decoded(path, data, line, offset, problems)
            line, offset = line + data.count(b"\n"), offset + len(data)
            held, size = [chunk[cut:]], len(chunk) - cut
        if size > MAX_RECORD:
            raise InputError(f"{path}, line {line} is longer than {MAX_RECORD >> 20} MiB; is this a text file?")
    if data := b"".join(held):
        yield line, _decoded(path, data, line, offset, problems)


def _blocks_in(path: Path, gzipped: bool, problems: Problems, encoding: str) -> Iterator[tuple[int, str]]:
    """As `blocks`, of a file in another encoding than UTF-8."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    line, size = 1, 0
    held: list[str] = []
    cr_alone: bool | None = None
    for chunk in itertools.chain(chunks(path, gzipped), [b""]):
        text = decoder.decode(chunk, final=not chunk)
        if cr_alone is None:
            cr_alone = "\r" in text and "\n" not in text
        text = text.replace("\r", "\n") if cr_alone else text
        text = text.removeprefix("\ufeff") if line == 1 and not held else text
        cut = text.rfind("\n") + 1
        held.append(text[: cut or None])
        size += len(text)
        if size > MAX_RECORD:
            raise InputError(f"{path}, line {line} is longer than {MAX_RECORD >> 20} MiB; is this a text file?")
        if not cut and chunk:
            continue
        whole = "".join(held)
        if "\ufffd" in whole or "\0" in whole:
            problems.extend(
                f"{path}, line {number}: bytes that are not text in {encoding}; is that its encoding (--encoding)?"
                for number, one in enumerate(whole.split("\n"), line)
                if "\ufffd" in one or "\0" in one
            )
        if whole:
            yield line, whole
        line += whole.count("\n")
        held, size = [text[cut:] if cut else ""], len(text) - cut


def _with_lf(stream: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes; where the first of them hold CR and no LF, with LF for CR."""
    alone: bool | None = None
    for chunk in stream:
        if alone is None:
            alone = b"\r" in chunk and b"\n" not in chunk
        yield chunk.replace(b"\r", b"\n") if alone else chunk


def chunks(path: Path, gzipped: bool) -> Iterator[bytes]:
    """A file's bytes, unpacked, some at a time.

    Raises:
        InputError: it cannot be read, is damaged, or unpacks to far more than text does.
    """
    try:
        with open_bytes(path, gzipped) as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(unreadable(path, error)) from error


def _decoded(path: Path, data: bytes, line: int, offset: int, problems: Problems) -> str:
    mark = codecs.BOM_UTF8 if offset == 0 and data.startswith(codecs.BOM_UTF8) else b""
    try:
        text = data[len(mark) :].decode()
        if "\0" not in text:
            return text
    except UnicodeDecodeError:
        text = data[len(mark) :].decode(errors="replace")
    for number, raw in enumerate(data.split(b"\n"), line):
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            problems.add(
                f"{path}, line {number}, byte {offset + error.start} of the file (from 0): 0x{raw[error.start]:02x} "
                "is not UTF-8; correct these lines, or name the encoding of the whole file with --encoding"
            )
        if b"\0" in raw:
            problems.add(f"{path}, line {number}: a NUL byte; this is binary data or UTF-16, not text in UTF-8")
        offset += len(raw) + 1
    return text


def unreadable(path: Path, error: Exception) -> str:
    """The message for a file that cannot be read."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot read {path}: {error.strerror}"
    return f"cannot read {path}: {error}; is it complete, and of the kind that its name says?"
