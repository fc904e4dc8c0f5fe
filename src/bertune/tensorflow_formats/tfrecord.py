"""TFRecord files of tf.train.Example, read and written without TensorFlow.

A record is its length (uint64, little-endian), the masked CRC-32C of those eight bytes, its bytes, and their masked
CRC-32C. An Example is a map from names to lists of bytes, of 32-bit floats, or of 64-bit integers.
Source: tensorflow.org/tutorials/load_data/tfrecord; tensorflow/core/example/{example,feature}.proto.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError
from bertune.files.atomic_write import unwritable
from bertune.tensorflow_formats.crc32c import crc32c, masked
from bertune.tensorflow_formats.protobuf import Message, WireError, bytes_field, varint
from bertune.tensorflow_formats.tensor_bundle import beside

Record = Mapping[str, npt.NDArray[Any] | Sequence[int] | Sequence[float] | Sequence[bytes] | Sequence[str]]
"""An Example by name of its features: whole numbers, floats, or texts and bytes."""

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_BYTES, _FLOATS, _INTEGERS = 1, 2, 3
_LONGEST_VARINT = 10


def read_records(path: Path) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """The Examples of a file in order, every checksum checked, in constant memory.

    Returns: by feature: int64, float32, or an object array of bytes. Shape: (values,) each.

    Raises:
        InputError: no such file; a record that is cut off, has a wrong checksum or is no Example. Records count from 0.
    """
    return (_example(data, where) for data, where in _framed_in(path))


def count_records(path: Path) -> int:
    """How many records a file has, their checksums checked, but nothing in them read.

    Raises:
        InputError: no such file; a record that is cut off or has a wrong checksum.
    """
    return sum(1 for _ in _framed_in(path))


def is_tfrecord(path: Path) -> bool:
    """Whether a file begins with a whole record header. False where it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER.size)
    except OSError:
        return False
    return len(start) == _HEADER.size and _HEADER.unpack(start)[1] == masked(crc32c(start[:8]))


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write Examples, beside and renamed, so that a file is there whole or not at all.

    Returns: how many were written.

    Raises:
        InputError: the path cannot be written.
        FaultError: the disk failed.
    """
    count = 0
    try:
        with beside(path) as temporary:
            with temporary.open("wb") as file:
                for record in records:
                    file.write(framed(encode_example(record)))
                    count += 1
            temporary.replace(path)
    except OSError as error:
        raise unwritable(error, f"{path}: cannot be written: {error.strerror or error}") from None
    return count


def framed(data: bytes) -> bytes:
    """A record as it stands in a file: length, checksum, bytes, checksum."""
    length = struct.pack("<Q", len(data))
    return b"".join((length, _FOOTER.pack(masked(crc32c(length))), data, _FOOTER.pack(masked(crc32c(data)))))


def encode_example(record: Record) -> bytes:
    """The tf.train.Example of a record, its features in the given order.

    Raises:
        TypeError: values that are neither numbers nor texts.
    """
    entries = (
        bytes_field(1, bytes_field(1, name.encode()) + bytes_field(2, _feature(name, values)))
        for name, values in record.items()
    )
    return bytes_field(1, b"".join(entries))


def _feature(name: str, values: Any) -> bytes:
    if len(values) and isinstance(values[0], str | bytes):
        items = (value.encode() if isinstance(value, str) else value for value in values)
        return bytes_field(_BYTES, b"".join(bytes_field(1, item) for item in items))
    array = np.asarray(values).reshape(-1)
    if array.dtype.kind == "f":
        return bytes_field(_FLOATS, bytes_field(1, array.astype("<f4").tobytes()))
    if array.dtype.kind not in "biu":
        raise TypeError(f"feature {name!r} holds {array.dtype}, which an Example cannot")
    return bytes_field(_INTEGERS, bytes_field(1, b"".join(map(varint, array.tolist()))))


def _framed_in(path: Path) -> Iterator[tuple[bytes, str]]:
    """The bytes of every record, and where it stands."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            number = 0
            while (data := _read_record(file, size, where := f"{path}, record {number} (from 0)")) is not None:
                yield data, where
                number += 1
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None


def _read_record(file: BinaryIO, size: int, where: str) -> bytes | None:
    """The bytes of the next record; None at the file's end."""
    start = file.tell()
    header = file.read(_HEADER.size)
    if not header:
        return None
    if len(header) < _HEADER.size:
        raise InputError(f"{where}: the file ends within its header at byte {size}; it is cut off: copy it again")
    length, check = _HEADER.unpack(header)
    if check != masked(crc32c(header[:8])):
        hint = "; is it a TFRecord file? It must not be compressed" if start == 0 else "; the file is damaged"
        raise InputError(f"{where}: the checksum of its length, at byte {start}, does not match{hint}")
    left = size - file.tell()
    if length + _FOOTER.size > left:
        raise InputError(
            f"{where}: needs {length + _FOOTER.size} bytes from byte {file.tell()} on, but the file ends after {left}; "
            "it is cut off: copy it again"
        )
    data = file.read(length)
    if _FOOTER.unpack(file.read(_FOOTER.size))[0] != masked(crc32c(data)):
        raise InputError(f"{where}: the checksum of its {length} bytes, from byte {start + 12} on, does not match")
    return data


def _example(data: bytes, where: str) -> dict[str, npt.NDArray[Any]]:
    try:
        return {name: _values(feature) for name, feature in Message(data).message(1).entries(1)}
    except WireError as error:
        raise InputError(f"{where}: not a tf.train.Example: {error}") from None


def _values(feature: Message) -> npt.NDArray[Any]:
    if _INTEGERS in feature:
        return _integers(feature.message(_INTEGERS))
    if _FLOATS in feature:
        return np.array(feature.message(_FLOATS).floats(1), np.float32)
    if _BYTES in feature:
        items = [bytes(view) for view in feature.message(_BYTES).views(1)]
        texts = np.empty(len(items), object)
        texts[:] = items
        return texts
    return np.zeros(0, np.int64)


def _integers(message: Message) -> npt.NDArray[np.int64]:
    """All numbers of an Int64List; packed ones, as every writer leaves them, are taken apart all at once."""
    try:
        packed = list(message.views(1))
    except WireError:  # numbers one by one
        return np.array(message.integers(1), np.int64)
    data = np.frombuffer(b"".join(packed), np.uint8)
    if not len(data):
        return np.zeros(0, np.int64)
    ends = np.flatnonzero(data < 0x80)
    lengths = np.diff(ends, prepend=-1)
    if not len(ends) or ends[-1] != len(data) - 1 or lengths.max() > _LONGEST_VARINT:
        raise WireError("field 1 does not hold whole numbers")
    starts = ends + 1 - lengths
    shifts = 7 * (np.arange(len(data)) - np.repeat(starts, lengths))
    bits = (data & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(bits, starts).view(np.int64)
