"""CRC-32C, the checksum of TensorFlow's checkpoints and records, at memory speed without a compiled extension.

A CRC is the remainder of the message, read as a polynomial over GF(2), by a fixed polynomial P of degree 32. Instead of
dividing byte by byte, a long message is first folded onto itself: as Q = x^290 + x^136 + x^113 + x^107 + x^32 + 1 is a
multiple of P, a coefficient may be moved to the five places that Q names without changing the remainder. Squaring is
linear over GF(2), so Q^(2^k), which is Q with every exponent times 2^k, is a multiple of P too: the same five places
serve for bits, words and blocks, and folding is the exclusive-or of long slices. Only the last 37 bytes take the table.

Parameters: RFC 3720, section 12.1 and appendix B.4 (Castagnoli polynomial, bits reflected, all ones before and after).
"""

from functools import cache

import numpy as np
import numpy.typing as npt

Bytes = bytes | bytearray | memoryview
"""What has a checksum; an array gives its memory as `array.data`."""
_POLYNOMIAL = 0x82F63B78
"""P without x^32, bits reflected."""
_TAPS = (154, 177, 183, 258, 290)
"""Where a coefficient goes, in places towards the end: the degree of Q less the degrees of its other terms."""
_UNIT = 32
"""Words of eight bytes that move together: long slices, and a window that stays in the processor's cache."""
_BLOCK = 1 << 16
"""Words taken up at a time."""
_MASK_DELTA = 0xA282EAD8
_ALL_ONES = 0xFFFFFFFF


def crc32c(data: Bytes, crc: int = 0) -> int:
    """Checksum of `data`, or of what `crc` covers followed by `data`.

    Args:
        data: bytes as they lie in memory, in one piece.
        crc: the checksum of what comes before.
    """
    view = memoryview(data)
    if not view.nbytes:
        return crc
    view = view.cast("B")
    state = crc ^ _ALL_ONES
    if len(view) > 2 * _TAPS[-1] * _UNIT * 8:
        return _finish(*_fold_words(view, state)) ^ _ALL_ONES
    return _finish(view, state) ^ _ALL_ONES


def masked(crc: int) -> int:
    """The form in which a checksum is stored beside its data, as in LevelDB's crc32c.h."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_ONES


@cache
def _table() -> tuple[int, ...]:
    """Remainder of every byte followed by four zero bytes."""
    remainders = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
        remainders.append(byte)
    return tuple(remainders)


def _fold_words(view: memoryview, state: int) -> tuple[Bytes, int]:
    """Shorten a long message to some seventy kilobytes with the same checksum.

    Returns: the short message, and the state to start it with.
    """
    reach, step = _TAPS[-1] * _UNIT, _TAPS[0] * _UNIT
    words = np.frombuffer(view, np.uint64, len(view) // 8)
    window = np.empty(reach + _BLOCK, np.uint64)
    window[:reach] = words[:reach]
    window[:1].view(np.uint32)[:1] ^= np.frombuffer(state.to_bytes(4, "little"), np.uint32)
    for start in range(reach, len(words), _BLOCK):
        block = words[start : start + _BLOCK]
        window[reach : reach + len(block)] = block
        for low in range(0, len(block), step):
            high = min(low + step, len(block))
            for tap in _TAPS:
                window[low + tap * _UNIT : high + tap * _UNIT] ^= window[low:high]
        window[:reach] = window[len(block) : len(block) + reach]
    tail = np.frombuffer(view[len(words) * 8 :], np.uint8) if len(view) % 8 else np.empty(0, np.uint8)
    rest: npt.NDArray[np.uint8] = np.concatenate([window[:reach].view(np.uint8), tail])
    return rest.data, 0


def _finish(data: Bytes, state: int) -> int:
    """State after `data`: folded as one large integer, whose lowest bit is the message's first, then the table."""
    view = memoryview(data)
    if len(view) > 64:
        bits = len(view) * 8
        value = int.from_bytes(view, "little") ^ state
        scale = 1 << (bits // _TAPS[-1]).bit_length()
        while scale := scale >> 1:
            reach, gap = _TAPS[-1] * scale, _TAPS[0] * scale
            while bits > reach:
                step = min(gap, bits - reach)
                head = value & ((1 << step) - 1)
                value >>= step
                bits -= step
                for tap in _TAPS:
                    value ^= head << (tap * scale - step)
        padding = -bits % 8  # zeros before a message do not change its remainder
        view = memoryview((value << padding).to_bytes((bits + padding) // 8, "little"))
        state = 0
    table = _table()
    for byte in view:
        state = table[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state
