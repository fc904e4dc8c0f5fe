"""What the index of a TensorFlow checkpoint says of every tensor: type, shape, where its bytes lie, its parts.

Format: tensorflow/core/protobuf/tensor_bundle.proto and framework/{types,tensor_shape,tensor_slice,versions}.proto;
the key of a part: core/util/saved_tensor_slice_util.cc, core/lib/strings/ordered_code.cc.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from bertune.tensorflow_formats.protobuf import Message, WireError, bytes_field, fixed32_field, varint_field

STRING, BFLOAT16 = 7, 14
DTYPES: dict[int, np.dtype[np.generic]] = {
    number: np.dtype(name)
    for number, name in {
        1: "<f4",
        2: "<f8",
        3: "<i4",
        4: "u1",
        5: "<i2",
        6: "i1",
        8: "<c8",
        9: "<i8",
        10: "?",
        BFLOAT16: "<u2",
        17: "<u2",
        18: "<c16",
        19: "<f2",
        22: "<u4",
        23: "<u8",
    }.items()
}
"""DataType of types.proto → how it is stored. numpy has no bfloat16, which is the upper half of a float32."""
KINDS = {dtype: number for number, dtype in DTYPES.items() if number != BFLOAT16}
"""How numpy holds it → DataType."""

_ESCAPES = {0x00: b"\0\xff", 0xFF: b"\xff\0"}
_MOST_AXES = 32
_MOST_ELEMENTS = 1 << 48
_MOST_SHARDS = 99_999
_VERSION = 1

Part = tuple[tuple[int, int | None], ...]
"""A slice of a partitioned variable: of every axis the start and the length; None is the whole axis."""


@dataclass(frozen=True)
class Entry:
    """One tensor's line. A variable saved in parts has `slices` and no bytes of its own."""

    kind: int
    shape: tuple[int, ...]
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int = 0
    slices: tuple[Part, ...] = ()

    @property
    def elements(self) -> int:
        """Numbers (or texts) in the tensor."""
        return prod(self.shape)


def read_header(header: Message) -> int:
    """Read a BundleHeaderProto.

    Returns: how many data files there are.

    Raises:
        WireError: big-endian data, a newer format, an impossible count.
    """
    if header.integer(2):
        raise WireError("its numbers are big-endian, which is not read here")
    if header.message(3).integer(2) > _VERSION:
        raise WireError(f"its format asks for a reader of version {header.message(3).integer(2)}")
    shards = header.integer(1)
    if not 1 <= shards <= _MOST_SHARDS:
        raise WireError(f"it claims {shards} data files")
    return shards


def write_header() -> bytes:
    """A BundleHeaderProto: one data file, little-endian, version 1."""
    return varint_field(1, 1) + bytes_field(3, varint_field(1, _VERSION))


def read_entry(key: bytes, entry: Message) -> Entry:
    """Read a BundleEntryProto.

    Raises:
        WireError: an impossible shape.
    """
    axes = entry.message(2)
    shape = tuple(axis.integer(1) for axis in axes.messages(2))
    known = axes.integer(3) == 0 and all(size >= 0 for size in shape)
    if not known or len(shape) > _MOST_AXES or prod(size for size in shape if size) > _MOST_ELEMENTS:
        raise WireError(f"key {key!r} has shape {list(shape)[:_MOST_AXES]}, which cannot be")
    slices = tuple(
        tuple((extent.integer(1), extent.integer(2) if 2 in extent else None) for extent in part.messages(1))
        for part in entry.messages(7)
    )
    return Entry(
        kind=entry.integer(1),
        shape=shape,
        shard=entry.integer(3),
        offset=entry.integer(4),
        size=entry.integer(5),
        checksum=entry.fixed32(6),
        slices=slices,
    )


def write_entry(entry: Entry) -> bytes:
    """A BundleEntryProto of a tensor in one piece."""
    shape = b"".join(bytes_field(2, varint_field(1, size)) for size in entry.shape)
    place = varint_field(3, entry.shard) + varint_field(4, entry.offset) + varint_field(5, entry.size)
    return varint_field(1, entry.kind) + bytes_field(2, shape) + place + fixed32_field(6, entry.checksum)


def part_bounds(part: Part, shape: tuple[int, ...]) -> tuple[slice, ...] | None:
    """Where a part lies in the whole; None when it does not fit."""
    if len(part) != len(shape):
        return None
    bounds = []
    for (start, length), size in zip(part, shape, strict=True):
        stop = size if length is None else start + length
        if not 0 <= start <= stop <= size or (length is None and start):
            return None
        bounds.append(slice(start, stop))
    return tuple(bounds)


def part_key(key: bytes, part: Part) -> bytes:
    """The key of a part's own entry: zero, the variable's name, how many axes, of every axis start and length."""
    escaped = b"".join(_ESCAPES.get(byte, bytes([byte])) for byte in key)
    axes = b"".join(_ordered(start) + _ordered(-1 if length is None else length) for start, length in part)
    return b"\0" + escaped + b"\0\x01" + (bytes([1, len(part)]) if part else b"\0") + axes


def _ordered(value: int) -> bytes:
    """OrderedCode's signed number: n bytes carry 7n - 1 bits and the sign.

    It is big-endian two's complement; n leading ones are laid over it by exclusive-or, so that bytes sort as numbers.
    """
    size = (~value if value < 0 else value).bit_length() // 7 + 1
    mark = ((1 << size) - 1) << 7 * size
    return (value % (1 << 8 * size) ^ mark).to_bytes(size, "big")
