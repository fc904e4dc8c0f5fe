"""Protocol buffers on the wire: enough to read what others wrote, by field number, and to write small messages.

Format: protobuf.dev/programming-guides/encoding.
"""

import struct
from collections.abc import Iterator
from typing import NoReturn

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_INT64_SIGN = 1 << 63
_UINT64 = (1 << 64) - 1


class WireError(ValueError):
    """Bytes that are no protocol buffer; callers add the file's name."""


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, seven a byte, and the position after it.

    Raises:
        WireError: it does not end within the data, or is too long.
    """
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise WireError(f"ends within a number at byte {position}")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _UINT64, position
    raise WireError(f"a number of more than 64 bits before byte {position}")


def varint(value: int) -> bytes:
    """A whole number in seven-bit groups; negative ones as 64-bit two's complement."""
    value &= _UINT64
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def varint_field(number: int, value: int) -> bytes:
    """A whole-number field; nothing when it is zero, as proto3 writes it."""
    return varint(number << 3 | _VARINT) + varint(value) if value else b""


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of bytes: a string or a message."""
    return varint(number << 3 | _BYTES) + varint(len(value)) + value


def fixed32_field(number: int, value: int) -> bytes:
    """A field of four bytes, little-endian."""
    return varint(number << 3 | _FIXED32) + struct.pack("<I", value)


class Message:
    """One level of a message: every field's values in the order of the wire; nothing is copied."""

    def __init__(self, data: memoryview | bytes) -> None:
        """Split a message into fields.

        Raises:
            WireError: the bytes are no message.
        """
        self._fields: dict[int, list[int | memoryview]] = {}
        view = memoryview(data)
        position = 0
        while position < len(view):
            tag, position = read_varint(view, position)
            number, kind = tag >> 3, tag & 7
            value: int | memoryview
            if kind == _VARINT:
                value, position = read_varint(view, position)
            else:
                if kind == _BYTES:
                    length, position = read_varint(view, position)
                elif kind in {_FIXED32, _FIXED64}:
                    length = 4 if kind == _FIXED32 else 8
                else:
                    raise WireError(f"unknown wire type {kind} of field {number} before byte {position}")
                if length > len(view) - position:
                    raise WireError(
                        f"field {number} claims {length} bytes at byte {position}, but {len(view) - position} are left"
                    )
                value = view[position : position + length]
                position += length
            self._fields.setdefault(number, []).append(value)

    def __contains__(self, number: int) -> bool:
        return number in self._fields

    def integer(self, number: int) -> int:
        """A signed whole number (int32, int64, bool, enum); 0 when absent."""
        return next(iter(self.integers(number)[-1:]), 0)

    def integers(self, number: int) -> list[int]:
        """Signed whole numbers of a repeated field, packed or not."""
        numbers: list[int] = []
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                numbers.append(_signed(value))
                continue
            position = 0
            while position < len(value):
                item, position = read_varint(value, position)
                numbers.append(_signed(item))
        return numbers

    def fixed32(self, number: int) -> int:
        """An unsigned number of four bytes; 0 when absent."""
        value = self._last_view(number)
        return int.from_bytes(value, "little") if len(value) in {0, 4} else self._wrong(number, "four bytes")

    def floats(self, number: int) -> list[float]:
        """32-bit floats of a repeated field, packed or not."""
        numbers: list[float] = []
        for value in self.views(number):
            if len(value) % 4:
                self._wrong(number, "32-bit floats")
            numbers.extend(struct.unpack(f"<{len(value) // 4}f", value))
        return numbers

    def data(self, number: int) -> memoryview:
        """Bytes; empty when absent."""
        return self._last_view(number)

    def text(self, number: int) -> str:
        """A string; empty when absent."""
        return self._decoded(number, self._last_view(number))

    def texts(self, number: int) -> list[str]:
        """The strings of a repeated field."""
        return [self._decoded(number, value) for value in self.views(number)]

    def message(self, number: int) -> "Message":
        """A message; an empty one when absent."""
        return Message(self._last_view(number))

    def messages(self, number: int) -> Iterator["Message"]:
        """The messages of a repeated field."""
        return (Message(value) for value in self.views(number))

    def entries(self, number: int) -> Iterator[tuple[str, "Message"]]:
        """A map from strings to messages."""
        return ((entry.text(1), entry.message(2)) for entry in self.messages(number))

    def views(self, number: int) -> Iterator[memoryview]:
        """The values of a repeated field of bytes."""
        for value in self._fields.get(number, []):
            if isinstance(value, int):
                self._wrong(number, "bytes")
            yield value

    def _last_view(self, number: int) -> memoryview:
        value: int | memoryview = self._fields.get(number, [memoryview(b"")])[-1]
        return value if isinstance(value, memoryview) else self._wrong(number, "bytes")

    def _decoded(self, number: int, value: memoryview) -> str:
        try:
            return str(value, "utf-8")
        except UnicodeDecodeError:
            self._wrong(number, "text in UTF-8")

    @staticmethod
    def _wrong(number: int, expected: str) -> NoReturn:
        raise WireError(f"field {number} does not hold {expected}")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= _INT64_SIGN else value
