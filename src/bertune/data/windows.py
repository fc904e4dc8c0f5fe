"""Windows over sequences that are too long for the encoder."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Which part of which sequence every window shows, and which part of it counts. Shape: (windows,) each.

    example: the sequence.  first, end: the tokens shown.
    owned_first, owned_end: the tokens for which this window speaks: every token has exactly one such window, the one
        that shows the most text on its narrower side.
    """

    example: Numbers
    first: Numbers
    end: Numbers
    owned_first: Numbers
    owned_end: Numbers


def place_windows(lengths: Numbers, room: int | Numbers, step: int | Numbers) -> Windows:
    """Windows of up to `room` tokens, `step` tokens from one's start to the next; one at least for every sequence.

    The last window ends with the sequence, and is as full as the others.

    Args:
        lengths: tokens of every sequence. Shape: (sequences,).
        room: tokens of a window, at least 1; one number, or one for every sequence.
        step: at least 1, likewise; more than `room` is taken as `room`.
    """
    rooms = np.broadcast_to(np.asarray(room, np.int64), lengths.shape)
    steps = np.clip(step, 1, rooms)
    counts = 1 + np.maximum(0, -(-(lengths - rooms) // steps))
    example = np.repeat(np.arange(len(lengths)), counts)
    within = np.arange(len(example)) - np.repeat(np.cumsum(counts) - counts, counts)
    total = lengths[example]
    first = np.minimum(within * steps[example], np.maximum(0, total - rooms[example]))
    end = np.minimum(first + rooms[example], total)
    is_first = within == 0
    is_last = np.append(is_first[1:], True)
    middle = (np.roll(first, -1) + end + 1) // 2  # of the overlap with the window after
    owned_end = np.where(is_last, total, middle)
    owned_first = np.where(is_first, 0, np.roll(owned_end, 1))
    return Windows(example, first, end, owned_first, owned_end)
