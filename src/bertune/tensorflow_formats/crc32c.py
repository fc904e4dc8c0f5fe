"""CRC-32C, the checksum of TensorFlow's checkpoints and records (RFC 3720, section 12.1), by Google's library."""

import google_crc32c

Bytes = bytes | bytearray | memoryview
"""What has a checksum; an array gives its memory as `array.data`."""
_CHUNK = 1 << 20
"""Bytes given to the library at a time: it takes none that can be written to, so they are copied."""
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
    for start in range(0, len(view), _CHUNK):
        crc = google_crc32c.extend(crc, bytes(view[start : start + _CHUNK]))
    return crc


def masked(crc: int) -> int:
    """The form in which a checksum is stored beside its data, as in LevelDB's crc32c.h."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & _ALL_ONES
