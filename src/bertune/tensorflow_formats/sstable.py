"""The sorted table behind a checkpoint's `.index`: LevelDB's file of keys and values, read whole and written whole.

Layout: data blocks, an unused "metaindex" block, an index block (last key of a block → where the block lies), a footer
of 48 bytes that points to the last two. A block is entries, then the offsets of entries whose keys are stored in full
("restarts"), then their count; it is followed by a byte for its compression and a masked CRC-32C of both.
Source: LevelDB's doc/table_format.md; TensorFlow's core/lib/io uses it with blocks of 256 KiB.
"""

import struct
from collections.abc import Iterable, Iterator

from bertune.tensorflow_formats.crc32c import crc32c, masked
from bertune.tensorflow_formats.protobuf import WireError, read_varint, varint

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TRAILER = 5
_BLOCK_SIZE = 1 << 18
_RESTART_INTERVAL = 16
_LONGEST_KEY = 1 << 16
_MOST_KEY_BYTES = 1 << 26
"""Keys share prefixes with their neighbours, so a small damaged file could spell out endless keys."""


class TableError(ValueError):
    """Bytes that are no sound table; callers add the file's name."""


def read_table(data: memoryview) -> list[tuple[bytes, memoryview]]:
    """Every key with its value, in the keys' order. Values are views into `data`.

    Raises:
        TableError: not such a table, cut short, compressed, or a checksum that does not fit.
    """
    if len(data) < _FOOTER:
        raise TableError(f"too short for an index: {len(data)} bytes, at least {_FOOTER} are needed")
    body, footer = data[:-_FOOTER], data[-_FOOTER:]
    if struct.unpack("<Q", footer[-8:])[0] != _MAGIC:
        raise TableError("does not end like an index of TensorFlow; it is cut short or another kind of file")
    try:
        _, position = _handle(footer, 0)
        index, _ = _handle(footer, position)
        pairs: list[tuple[bytes, memoryview]] = []
        key_bytes = end = 0
        for _, value in _entries(_block(body, index), index[0]):
            place, _ = _handle(value, 0)
            if place[0] < end:  # else one large block, named often, would be read for ever
                raise TableError(f"a block at byte {place[0]} comes after one that ends at byte {end}")
            end = sum(place)
            for key, item in _entries(_block(body, place), place[0]):
                if pairs and key <= pairs[-1][0]:
                    raise TableError(f"key {key!r} comes after {pairs[-1][0]!r}, but keys must ascend")
                key_bytes += len(key)
                if key_bytes > _MOST_KEY_BYTES:
                    raise TableError(f"its keys fill more than {_MOST_KEY_BYTES >> 20} MiB")
                pairs.append((key, item))
    except WireError as error:
        raise TableError(str(error)) from error
    return pairs


def _handle(data: memoryview, position: int) -> tuple[tuple[int, int], int]:
    """Where a block lies, as (offset, size), and the position behind."""
    offset, position = read_varint(data, position)
    size, position = read_varint(data, position)
    return (offset, size), position


def _block(body: memoryview, place: tuple[int, int]) -> memoryview:
    """A block's contents, its checksum compared."""
    offset, size = place
    end = offset + size
    if end + _TRAILER > len(body):
        raise TableError(f"a block claims bytes {offset} to {end + _TRAILER}, but only {len(body)} hold blocks")
    kind, stored = struct.unpack("<BI", body[end : end + _TRAILER])
    actual = masked(crc32c(body[offset : end + 1]))
    if actual != stored:
        raise TableError(f"the block at byte {offset} has checksum {actual:08x}, but {stored:08x} was stored with it")
    if kind:
        name = "snappy-compressed" if kind == 1 else f"of unknown compression {kind}"
        raise TableError(f"the block at byte {offset} is {name}; only plain blocks, as TensorFlow writes, are read")
    return body[offset:end]


def _entries(block: memoryview, where: int) -> Iterator[tuple[bytes, memoryview]]:
    """Keys and values of a block; `where` is its offset in the file, for messages."""
    restarts = struct.unpack("<I", block[-4:])[0] if len(block) >= 4 else -1
    end = len(block) - 4 * (restarts + 1)
    if restarts < 0 or end < 0:
        raise TableError(f"the block at byte {where} has {len(block)} bytes, too few for its table of restarts")
    key, position = b"", 0
    entries = block[:end]
    while position < end:
        shared, position = read_varint(entries, position)
        fresh, position = read_varint(entries, position)
        length, position = read_varint(entries, position)
        if shared > len(key) or fresh + length > end - position or shared + fresh > _LONGEST_KEY:
            raise TableError(f"the entry before byte {where + position} claims lengths that cannot be")
        key = key[:shared] + bytes(entries[position : position + fresh])
        position += fresh
        yield key, entries[position : position + length]
        position += length


def write_table(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of keys and values; the keys must ascend."""
    file = bytearray()
    index: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in pairs:
        waiting.append((key, value))
        size += len(key) + len(value) + 3
        if size >= _BLOCK_SIZE:
            index.append((key, _append(file, _packed(waiting, _RESTART_INTERVAL))))
            waiting, size = [], 0
    if waiting:
        index.append((_successor(waiting[-1][0]), _append(file, _packed(waiting, _RESTART_INTERVAL))))
    footer = _append(file, _packed([], 1)) + _append(file, _packed(index, 1))
    return bytes(file) + footer.ljust(_FOOTER - 8, b"\0") + struct.pack("<Q", _MAGIC)


def _append(file: bytearray, block: bytes) -> bytes:
    """Put a block at the end of the file. Returns: its handle."""
    handle = varint(len(file)) + varint(len(block))
    contents = block + b"\0"
    file += contents + struct.pack("<I", masked(crc32c(contents)))
    return handle


def _packed(pairs: list[tuple[bytes, bytes]], interval: int) -> bytes:
    """A block's contents: a key in full every `interval` entries, else without what it shares with the key before."""
    block, restarts, last = bytearray(), [], b""
    for count, (key, value) in enumerate(pairs):
        shared = 0
        if count % interval == 0:
            restarts.append(len(block))
        else:
            while shared < min(len(key), len(last)) and key[shared] == last[shared]:
                shared += 1
        block += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    restarts = restarts or [0]
    return bytes(block) + struct.pack(f"<{len(restarts) + 1}I", *restarts, len(restarts))


def _successor(key: bytes) -> bytes:
    """A short key that is not below `key`, as LevelDB stores it for the last block."""
    for position, byte in enumerate(key):
        if byte < 0xFF:
            return key[:position] + bytes([byte + 1])
    return key
