"""TensorFlow's checkpoint format, read and written without TensorFlow.

`PREFIX.index` is a sorted table: under the empty key a BundleHeaderProto, under every tensor's name a BundleEntryProto
(type, shape, file, offset, size, checksum). `PREFIX.data-0000N-of-0000M` hold the tensors' bytes, little-endian, end to
end. A variable saved in parts has an entry that lists its slices, and an entry for every slice.

Format: tensorflow/core/protobuf/tensor_bundle.proto, core/util/tensor_bundle/, core/lib/strings/ordered_code.cc.
Nothing that a file claims is believed: sizes are compared with the files' before memory is taken, checksums always.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError, Problems
from bertune.files.atomic_write import unwritable
from bertune.tensorflow_formats.bundle_index import (
    BFLOAT16,
    DTYPES,
    KINDS,
    STRING,
    Entry,
    Part,
    part_bounds,
    part_key,
    read_entry,
    read_header,
    write_entry,
    write_header,
)
from bertune.tensorflow_formats.crc32c import crc32c, masked
from bertune.tensorflow_formats.protobuf import Message, WireError, read_varint
from bertune.tensorflow_formats.sstable import TableError, read_table, write_table

Array = npt.NDArray[np.generic]

_LARGEST_INDEX = 1 << 28
_AGAIN = "Copy or download the checkpoint again."


class TensorBundle:
    """A checkpoint, opened by its prefix: names and shapes at once, tensors one by one when asked for."""

    def __init__(self, prefix: Path) -> None:
        """Read the index and compare it with the sizes of the data files.

        Raises:
            InputError: a file is missing, cut short, damaged or of an unknown kind.
        """
        self.prefix = prefix
        self._index = Path(f"{prefix}.index")
        try:
            size = self._index.stat().st_size
            if size > _LARGEST_INDEX:
                raise InputError(f"{self._index}: {size} bytes; an index has at most {_LARGEST_INDEX}")
            pairs = read_table(memoryview(self._index.read_bytes()))
            if not pairs or pairs[0][0] != b"":
                raise TableError("it has no header")
            self._shards = read_header(Message(pairs[0][1]))
            self._entries = {key: read_entry(key, Message(value)) for key, value in pairs[1:]}
        except (TableError, WireError) as error:
            raise InputError(f"{self._index}: not a sound TensorFlow checkpoint index: {error}. {_AGAIN}") from error
        except OSError as error:
            raise InputError(f"{self._index}: cannot be read ({error.strerror}); a checkpoint needs it") from error
        self._check_extents()

    def __contains__(self, name: str) -> bool:
        return _key(name) in self._entries

    def names(self) -> list[str]:
        """Names of the tensors, in the order of their bytes; the parts of a partitioned variable are not listed."""
        return [key.decode("utf-8", "backslashreplace") for key in self._entries if not key.startswith(b"\0")]

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._entry(name).shape

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """Type of what `read` returns; object for text.

        Raises:
            InputError: unknown name, a type that cannot be read.
        """
        entry = self._entry(name)
        if entry.kind == STRING:
            return np.dtype(object)
        return np.dtype(np.float32) if entry.kind == BFLOAT16 else self._stored_type(name, entry)

    def read(self, name: str) -> Array:
        """One tensor of numbers, its checksum compared; bfloat16 is widened to float32.

        Raises:
            InputError: unknown name, a type that cannot be read, damaged data.
        """
        entry = self._entry(name)
        stored = self._stored_type(name, entry)
        array = self._joined(name, entry, stored) if entry.slices else self._whole(name, entry, stored)
        if entry.kind == BFLOAT16:
            return (array.astype("<u4") << np.uint32(16)).view("<f4")
        return array

    def read_strings(self, name: str) -> list[bytes]:
        """The texts of a tensor of type string, row by row, their checksums compared.

        On disk: the lengths as varints, their checksum, the texts. The tensor's checksum covers the lengths as numbers
        of 32 bits, the lengths' checksum and the texts.

        Raises:
            InputError: unknown name, not text, damaged data.
        """
        entry = self._entry(name)
        if entry.kind != STRING or entry.slices:
            raise InputError(f"{self._where(name)}: holds no text (type {entry.kind})")
        if not entry.size and not entry.elements:
            return []
        data = self._bytes(name, entry).data
        lengths, position = [], 0
        try:
            if entry.elements > len(data):
                raise WireError(f"{entry.elements} texts in {len(data)} bytes")
            for _ in range(entry.elements):
                length, position = read_varint(data, position)
                lengths.append(length)
            if position + 4 + sum(lengths) != len(data):
                raise WireError(f"texts of {sum(lengths)} bytes do not fill the {len(data)} bytes stored")
        except WireError as error:
            raise InputError(f"{self._where(name)}: damaged: {error}. {_AGAIN}") from error
        checksum = crc32c(b"".join(length.to_bytes(4 if length < 1 << 32 else 8, "little") for length in lengths))
        self._compare(name, masked(checksum), int.from_bytes(data[position : position + 4], "little"))
        self._compare(name, masked(crc32c(data[position:], checksum)), entry.checksum)
        texts, position = [], position + 4
        for length in lengths:
            texts.append(bytes(data[position : position + length]))
            position += length
        return texts

    def _entry(self, name: str) -> Entry:
        entry = self._entries.get(_key(name))
        if entry is None or name.startswith("\0"):
            names = self.names()
            some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise InputError(f"{self._index}: holds no tensor {name!r}; it holds {some or 'none'}")
        return entry

    def _where(self, name: str) -> str:
        return f"{self._index}, tensor {name!r}"

    def _stored_type(self, name: str, entry: Entry) -> np.dtype[np.generic]:
        if entry.kind not in DTYPES:
            what = "text, not numbers" if entry.kind == STRING else f"TensorFlow's type {entry.kind}, not read here"
            raise InputError(f"{self._where(name)}: holds {what}")
        return DTYPES[entry.kind]

    def _shard(self, shard: int) -> Path:
        return Path(f"{self.prefix}.data-{shard:05d}-of-{self._shards:05d}")

    def _shard_sizes(self, stored: list[Entry], problems: Problems) -> dict[int, int]:
        """Sizes of the data files in use, in bytes; what is missing becomes a problem."""
        sizes: dict[int, int] = {}
        for shard in sorted({entry.shard for entry in stored}):
            path = self._shard(shard)
            if not 0 <= shard < self._shards:
                problems.add(f"{self._index}: an entry lies in data file {shard}, but there are {self._shards}")
            elif not path.is_file():
                problems.add(f"{path}: missing; the checkpoint has {self._shards} data file(s) beside its index")
            else:
                sizes[shard] = path.stat().st_size
        return sizes

    def _check_extents(self) -> None:
        """Every entry must lie inside its data file, in bytes of its own.

        The second rule is not the format's, but TensorFlow keeps it; with it, a small file cannot name much data.
        """
        problems = Problems()
        stored = [(key, entry) for key, entry in self._entries.items() if not entry.slices]
        sizes = self._shard_sizes([entry for _, entry in stored], problems)
        ends: dict[int, int] = {}
        for key, entry in sorted(stored, key=lambda pair: (pair[1].shard, pair[1].offset, pair[1].size)):
            where, end = self._where(key.decode("utf-8", "backslashreplace")), entry.offset + entry.size
            if entry.shard not in sizes:
                continue
            if entry.offset < 0 or entry.size < 0 or end > sizes[entry.shard]:
                problems.add(
                    f"{where}: expected in bytes {entry.offset} to {end} of {self._shard(entry.shard).name}, "
                    f"which has {sizes[entry.shard]} bytes. {_AGAIN}"
                )
            elif entry.offset < ends.get(entry.shard, 0):
                problems.add(f"{where}: shares bytes with another tensor; the index is damaged. {_AGAIN}")
            elif entry.kind in DTYPES and entry.elements * DTYPES[entry.kind].itemsize != entry.size:
                problems.add(f"{where}: shape {list(entry.shape)} does not fit {entry.size} bytes. {_AGAIN}")
            else:
                ends[entry.shard] = end
        problems.raise_if_any()

    def _bytes(self, name: str, entry: Entry) -> npt.NDArray[np.uint8]:
        """An entry's bytes on disk; read, not mapped, so that a file cut meanwhile is an error and no crash."""
        path = self._shard(entry.shard)
        buffer = np.empty(entry.size, np.uint8)
        got = 0
        try:
            with path.open("rb") as file:
                file.seek(entry.offset)
                while got < entry.size and (count := file.readinto(buffer[got:].data)):
                    got += count
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if got < entry.size:
            raise InputError(f"{self._where(name)}: expected {entry.size} bytes in {path.name}, found {got}. {_AGAIN}")
        return buffer

    def _compare(self, name: str, actual: int, stored: int) -> None:
        if actual != stored:
            raise InputError(
                f"{self._where(name)}: damaged: expected checksum {stored:08x}, found {actual:08x}. {_AGAIN}"
            )

    def _whole(self, name: str, entry: Entry, stored: np.dtype[np.generic]) -> Array:
        buffer = self._bytes(name, entry)
        self._compare(name, masked(crc32c(buffer.data)), entry.checksum)
        return buffer.view(stored).reshape(entry.shape)

    def _joined(self, name: str, entry: Entry, stored: np.dtype[np.generic]) -> Array:
        """A partitioned variable, put together from its parts, which must cover it exactly once."""
        parts: list[tuple[Entry, tuple[slice, ...]]] = []
        for part in dict.fromkeys(entry.slices):
            bounds = part_bounds(part, entry.shape)
            found = None if bounds is None else self._entries.get(part_key(_key(name), part))
            shape = None if bounds is None else tuple(bound.stop - bound.start for bound in bounds)
            if bounds is None or found is None or (found.shape, found.kind, found.slices) != (shape, entry.kind, ()):
                raise InputError(f"{self._where(name)}: its part {_spelled(part)} is missing or does not fit. {_AGAIN}")
            parts.append((found, bounds))
        # Parts lie in bytes of their own: the whole is no larger than the files, before any memory is taken.
        if sum(found.elements for found, _ in parts) != entry.elements:
            raise InputError(f"{self._where(name)}: {len(parts)} parts do not make shape {list(entry.shape)}. {_AGAIN}")
        whole = np.empty(entry.shape, stored)
        covered = np.zeros(entry.shape, np.bool_)
        for found, bounds in parts:
            whole[bounds] = self._whole(name, found, stored)
            covered[bounds] = True
        if not covered.all():
            raise InputError(f"{self._where(name)}: its parts overlap and leave gaps. {_AGAIN}")
        return whole


def _key(name: str) -> bytes:
    return name.encode("utf-8", "backslashreplace")


def _spelled(part: Part) -> str:
    """A part as numpy would index it."""
    axes = (":" if length is None else f"{start}:{start + length}" for start, length in part)
    return f"[{', '.join(axes)}]"


def write_bundle(prefix: Path, tensors: Mapping[str, Array]) -> None:
    """Write a checkpoint in one data file, as TensorFlow's own writer does: `.index` and `.data-00000-of-00001`.

    Both are written beside their place and renamed; a failure before that leaves what was there.

    Raises:
        InputError: a name that is empty or starts with a zero, a type without a counterpart, a path that cannot be
            written.
        FaultError: the disk failed.
    """
    data_path, index_path = Path(f"{prefix}.data-00000-of-00001"), Path(f"{prefix}.index")
    pairs = [(b"", write_header())]
    offset = 0
    try:
        prefix.parent.mkdir(parents=True, exist_ok=True)
        with staged(data_path) as new_data, staged(index_path) as new_index:
            with new_data.open("xb") as file:
                for name in sorted(tensors, key=str.encode):
                    kind, data = _storable(name, tensors[name])
                    file.write(data)
                    shape, checksum = np.shape(tensors[name]), masked(crc32c(data))
                    entry = Entry(kind, shape, offset=offset, size=data.nbytes, checksum=checksum)
                    pairs.append((name.encode(), write_entry(entry)))
                    offset += data.nbytes
                file.flush()
                os.fsync(file.fileno())
            with new_index.open("xb") as file:
                file.write(write_table(pairs))
                file.flush()
                os.fsync(file.fileno())
            new_data.replace(data_path)
            new_index.replace(index_path)
    except OSError as error:
        raise unwritable(error, f"{error.filename or prefix}: cannot be written ({error.strerror})") from error


def _storable(name: str, tensor: Array) -> tuple[int, memoryview]:
    """A tensor's DataType and its bytes."""
    array = np.asarray(tensor)
    array = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
    if not name or name.startswith("\0"):
        raise InputError(f"cannot store a tensor under the name {name!r}; a name has at least one letter")
    if array.dtype not in KINDS:
        raise InputError(f"tensor {name!r}: type {array.dtype} has no counterpart in a TensorFlow checkpoint")
    return KINDS[array.dtype], array.reshape(-1).view(np.uint8).data


@contextlib.contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A name in the same folder for a file under way; what is left there afterwards is removed."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
