"""The wire format, compared with the messages of Google's own library."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertune.tensorflow_formats.protobuf import (
    Message,
    WireError,
    bytes_field,
    fixed32_field,
    read_varint,
    varint,
    varint_field,
)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_whole_numbers_come_back(value: int) -> None:
    assert read_varint(memoryview(varint(value)), 0) == (value % (1 << 64), len(varint(value)))
    assert Message(varint_field(3, value)).integer(3) == value


def test_fields_by_number() -> None:
    inner = bytes_field(1, "grüße".encode()) + varint_field(2, 7)
    message = Message(bytes_field(1, inner) + bytes_field(1, b"") + fixed32_field(6, 0xDEADBEEF) + varint_field(9, 1))
    assert [item.text(1) for item in message.messages(1)] == ["grüße", ""]
    assert message.message(1).text(1) == ""  # the last one counts
    assert message.fixed32(6) == 0xDEADBEEF
    assert 9 in message
    assert 8 not in message
    assert (message.integer(8), message.text(8), bytes(message.data(8)), message.fixed32(8)) == (0, "", b"", 0)


def test_lists_packed_or_not() -> None:
    packed = bytes_field(7, varint(1) + varint(300) + varint(-1))
    plain = varint_field(7, 1) + varint_field(7, 300) + varint_field(7, -1)
    assert Message(packed).integers(7) == Message(plain).integers(7) == [1, 300, -1]
    assert Message(bytes_field(5, b"\0\0\x80?\0\0\0@")).floats(5) == [1.0, 2.0]


def test_agrees_with_the_official_library() -> None:
    descriptor = pytest.importorskip("google.protobuf.descriptor_pb2")
    file = descriptor.FileDescriptorProto(name="a.proto", dependency=["b", "ç"], public_dependency=[0, 1])
    file.message_type.add(name="M").field.add(name="f", number=5, json_name="x")
    message = Message(file.SerializeToString())
    assert message.text(1) == "a.proto"
    assert message.texts(3) == ["b", "ç"]
    assert message.integers(10) == [0, 1]
    field = next(next(message.messages(4)).messages(2))
    assert (field.text(1), field.integer(3), field.text(10)) == ("f", 5, "x")


@pytest.mark.parametrize(
    "data",
    [
        b"\x08",
        b"\x08\xff",
        b"\x08" + b"\xff" * 11,
        b"\x0a\x05abc",
        b"\x0d\0\0",
        b"\x0b",
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\x7f",
    ],
)
def test_broken_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        Message(data)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = Message(data)
        for number in range(1, 4):
            message.integers(number), message.texts(number), message.floats(number), message.fixed32(number)
            list(message.entries(number))
    except WireError:
        pass


@pytest.mark.parametrize("read", [lambda m: m.text(1), lambda m: m.message(1), lambda m: list(m.messages(1))])
def test_a_number_where_bytes_belong(read: Callable[[Message], object]) -> None:
    with pytest.raises(WireError, match="field 1"):
        read(Message(varint_field(1, 5)))
