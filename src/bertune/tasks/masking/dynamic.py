"""Masks drawn anew for every epoch, from seed, epoch and sequence alone, so that batching changes nothing.

Rules of Devlin et al., 2019: of 15 % of a sequence's tokens, 80 % become [MASK], 10 % any word piece, 10 % stay.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertune.features import IGNORED, IntArray, Ragged

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Masking:
    """How tokens are masked.

    mask: id of [MASK].  vocabulary: ids run below this.  special: ids that are never masked.
    probability: share of a sequence's tokens, special ones counted.  whole_words: all pieces of a word or none.
    """

    mask: int
    vocabulary: int
    special: tuple[int, ...]
    probability: float = 0.15
    whole_words: bool = False


def mask(
    sequences: Ragged, masking: Masking, *, seed: int, epoch: int, rows: npt.NDArray[np.integer]
) -> tuple[IntArray, IntArray]:
    """Masked ids and what to predict.

    Args:
        sequences: ids, `~id` where one continues a word.
        masking: the rules.
        seed: with `epoch`, changes all draws.
        epoch: which pass over the data.
        rows: the sequences' numbers; each one's draws depend on its own alone. Shape: (sequences,).

    Returns: ids, and labels: the true id where it is to be predicted, IGNORED elsewhere. Shape: (tokens,) each.
    """
    lengths, offsets = sequences.lengths, sequences.offsets
    inside = sequences.values < 0
    ids = np.where(inside, ~sequences.values, sequences.values)
    of = np.repeat(np.arange(len(lengths)), lengths)
    position = np.arange(len(ids)) - offsets[:-1][of]
    keys = _mixed(_mixed(_mixed(np.array([seed], np.uint64)) + np.uint64(epoch)) + np.asarray(rows).astype(np.uint64))
    token_keys = keys[of] + position.astype(np.uint64) * _GOLDEN

    candidate = ~np.isin(ids, masking.special)
    begins = candidate.copy()
    if masking.whole_words:
        begins[1:] &= ~(inside[1:] & candidate[:-1] & (of[1:] == of[:-1]))
    wanted = np.maximum(1, np.rint(lengths * masking.probability)).astype(np.int64)
    chosen = _chosen(begins, candidate, (of, wanted), _uniform(token_keys, 0))

    labels = np.where(chosen, ids, IGNORED).astype(np.int32)
    kind = _uniform(token_keys, 1)
    other = (_uniform(token_keys, 2) * masking.vocabulary).astype(np.int32)
    masked = np.where(chosen & (kind < 0.8), masking.mask, np.where(chosen & (kind >= 0.9), other, ids))
    return masked.astype(np.int32), labels


def _chosen(
    begins: npt.NDArray[np.bool_],
    candidate: npt.NDArray[np.bool_],
    wanted: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    random_keys: npt.NDArray[np.float64],
) -> npt.NDArray[np.bool_]:
    """Which tokens to predict: words in random order as long as they fit into each sequence's number.

    Args:
        begins: where a word starts.
        candidate: tokens that belong to words.
        wanted: the sequence of every token, and the number of tokens for every sequence.
        random_keys: a random number for every token; a word goes by its first one's.
    """
    of, number = wanted
    chosen = np.zeros(len(of), bool)
    tokens = np.flatnonzero(candidate)
    if not len(tokens):
        return chosen
    word = np.cumsum(begins)[tokens] - 1
    sequence = of[tokens]
    order = np.lexsort((tokens, random_keys[np.flatnonzero(begins)][word], sequence))
    word, sequence = word[order], sequence[order]
    last = np.append(word[1:] != word[:-1], True)
    first_of_sequence = np.append(0, np.flatnonzero(sequence[1:] != sequence[:-1]) + 1)
    counted = np.arange(len(order)) - np.repeat(first_of_sequence, np.diff(np.append(first_of_sequence, len(order))))
    ends = counted[last]  # place of every word's last token in its sequence's order
    sizes = np.diff(np.append(-1, np.flatnonzero(last)))
    # A first word that is longer than the number is cut to it, so that every sequence has something to predict.
    fits = np.repeat(ends < number[sequence[last]], sizes)
    first_word = np.repeat(ends + 1 == sizes, sizes)
    chosen[tokens[order[fits | (first_word & (counted < number[sequence]))]]] = True
    return chosen


def _mixed(state: _UInt64s) -> _UInt64s:
    """SplitMix64's output function (Steele, Lea & Flood, 2014): neighbouring states give unrelated numbers."""
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _uniform(keys: _UInt64s, draw: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for every key; `draw` tells several apart."""
    return (_mixed(keys ^ np.uint64(draw << 60)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
