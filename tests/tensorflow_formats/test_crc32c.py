"""CRC-32C against published values, and the fast way against the plain one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertune.tensorflow_formats import crc32c as module
from bertune.tensorflow_formats.crc32c import crc32c, masked


def plain(data: bytes, crc: int = 0) -> int:
    """Bit by bit, straight from the definition."""
    state = crc ^ 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [  # RFC 3720, appendix B.4, and the customary check value
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_published_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


def test_masked_form_of_leveldb() -> None:
    assert masked(0) == 0xA282EAD8
    assert masked(0xFFFFFFFF) == 0xA282EAD7
    assert masked(crc32c(b"foo")) != crc32c(b"foo") != masked(masked(crc32c(b"foo")))


@given(st.binary(max_size=3000), st.integers(0, 0xFFFFFFFF))
def test_short_messages_equal_the_definition(data: bytes, crc: int) -> None:
    assert crc32c(data, crc) == plain(data, crc)


@given(st.binary(max_size=500), st.integers(0, 500))
def test_parts_make_the_whole(data: bytes, cut: int) -> None:
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)


@pytest.mark.parametrize("extra", [-1, 0, 1, 4097])
@pytest.mark.parametrize("chunks", [1, 2])
def test_long_messages_equal_short_ones_in_a_row(chunks: int, extra: int) -> None:
    size = chunks * module._CHUNK + extra
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8)
    piecewise = 0
    for start in range(0, size, 10_000):
        piecewise = crc32c(data[start : start + 10_000].data, piecewise)
    assert crc32c(data.data, 0) == piecewise
    assert crc32c(data.data, 12345) != piecewise
    data[size // 2] ^= 1
    assert crc32c(data.data) != piecewise


def test_numbers_of_several_bytes_count_by_their_bytes() -> None:
    numbers = np.arange(1000, dtype=np.float64).reshape(10, 100)
    assert crc32c(numbers.data) == crc32c(numbers.tobytes()) == plain(numbers.tobytes())


def test_unaligned_memory() -> None:
    data = np.random.default_rng(0).integers(0, 256, 300_001, np.uint8)
    assert crc32c(data[1:].data) == crc32c(data[1:].copy().data)
