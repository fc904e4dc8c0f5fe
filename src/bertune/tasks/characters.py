"""Spans of text that begin and end between characters as a reader sees them (grapheme clusters, UAX 29)."""

import unicodedata
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from bertune.tasks.clusters import cluster_starts

_INVISIBLE = {"Cc", "Cf", "Zs", "Zl", "Zp"}


def readable_span(text: str, start: int, end: int) -> tuple[int, int]:
    """The span, widened to whole grapheme clusters and then trimmed of clusters that show nothing at its ends.

    Invisible are white space, control and format characters (a byte order mark, a zero-width space). A span that holds
    nothing else becomes empty.

    Args:
        text: what the span lies in.
        start: of the span, in code points.
        end: its end, exclusive.
    """
    if start >= end:
        return start, end
    if text.isascii():
        part = text[start:end]
        left = len(part) - len(part.lstrip(_ASCII_INVISIBLE))
        right = len(part) - len(part.rstrip(_ASCII_INVISIBLE))
        return (start, start) if left == len(part) else (start + left, end - right)
    bounds = _boundaries(text)
    first = int(np.searchsorted(bounds, start, side="right")) - 1
    last = int(np.searchsorted(bounds, end, side="left"))
    while first < last and _is_invisible(text[bounds[first] : bounds[first + 1]]):
        first += 1
    while last > first and _is_invisible(text[bounds[last - 1] : bounds[last]]):
        last -= 1
    return int(bounds[first]), int(bounds[last])


_ASCII_INVISIBLE = "".join(map(chr, (*range(33), 127)))


@lru_cache(maxsize=64)
def _boundaries(text: str) -> npt.NDArray[np.int64]:
    """Where clusters begin, and the text's end."""
    return np.array([*cluster_starts(text), len(text)], np.int64)


def _is_invisible(cluster: str) -> bool:
    return all(unicodedata.category(char) in _INVISIBLE for char in cluster)
