"""Two tokenized texts as one sequence, and what is cut from them where they are too long."""

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError
from bertune.features import IntArray, Ragged
from bertune.tokenization.special_tokens import SpecialTokens


def join_pair(
    first: Ragged, second: Ragged | None, special: SpecialTokens, limit: int
) -> tuple[Ragged, Ragged, npt.NDArray[np.bool_]]:
    """`[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, cut to `limit` tokens as google-research/bert cuts.

    Where the tokenizer wants several separators between the texts of a pair, the first text's segment holds them.
    A pair loses its longer side's last token until it fits; at equal lengths b loses. A second text that has no tokens,
    or keeps none, counts as absent: `[CLS] a [SEP]`.

    Args:
        first: pieces of every first text.
        second: pieces of every second text, or None.
        special: [CLS] and [SEP], and how many of the latter stand in between.
        limit: most tokens of a sequence, special ones included.

    Returns: ids, segments, and whether a sequence was cut.

    Raises:
        InputError: the special tokens alone are more than `limit`.
    """
    a_old = first.lengths
    b_old = second.lengths if second is not None else np.zeros_like(a_old)
    around = special.around(b_old > 0)
    if len(around) and around.max() > limit:
        raise InputError(f"--max-seq-length {limit}: no room; special tokens alone are {around.max()} here")
    a_new, b_new = cut_pair(a_old, b_old, limit - around)
    shown = b_new > 0
    lengths = a_new + b_new + special.around(shown)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.full(int(offsets[-1]), special.sep, np.int32)
    segments = np.zeros(int(offsets[-1]), np.int32)
    starts = offsets[:-1]
    ids[starts] = special.cls
    _place(ids, starts + 1, first, a_new)
    if second is not None:
        b_starts = starts + a_new + 1 + special.separators
        _place(ids, b_starts, second, b_new)
        marks = np.zeros(int(offsets[-1]) + 1, np.int32)
        np.add.at(marks, b_starts[shown], 1)
        np.add.at(marks, offsets[1:][shown], -1)
        segments = np.cumsum(marks[:-1], dtype=np.int32)
    cut = (a_new < a_old) | (b_new < b_old)
    return Ragged(ids, offsets), Ragged(segments, offsets), cut


def cut_pair(
    a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], room: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Lengths of two texts after cutting: the shorter keeps up to half of the room; at a tie the odd token is a's."""
    over = a + b > room
    half = room // 2
    a_share = np.where(b <= half, room - b, np.where(a <= room - half, a, room - half))
    a_new = np.where(over, np.minimum(a, a_share), a)
    return a_new, np.where(over, np.minimum(b, room - a_new), b)


def _place(ids: IntArray, at: npt.NDArray[np.int64], pieces: Ragged, lengths: npt.NDArray[np.int64]) -> None:
    """Write the first `lengths` pieces of every sequence at `at`."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ids[np.repeat(at, lengths) + within] = pieces.values[np.repeat(pieces.offsets[:-1], lengths) + within]
