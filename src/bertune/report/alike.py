"""Rows whose texts are nearly equal but whose labels differ: one of the labels is often wrong.

Texts are compared by their character 4-grams, without case and punctuation: MinHash (Broder, 1997) in bands finds
candidates without comparing all pairs, whose Jaccard similarity is then computed.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEAST = 0.7
"""Jaccard similarity from which on texts are nearly equal."""
_GRAM = 4
_READ = 1000
"""Characters that are compared, the first."""
_BANDS, _OF_BAND = 12, 4
_NEXT = 20
"""Neighbours in a bucket that a text is compared with, so that a bucket of thousands takes no time."""
_BLOCK = 500_000
_WORDS = re.compile(r"\w+")

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Alike:
    """Two rows. similarity: 1 where their words are equal."""

    first: int
    second: int
    similarity: float


def normalized(text: str) -> str:
    """A text's words, whatever their case and the punctuation between them; a text without words as it is."""
    return " ".join(_WORDS.findall(text.casefold())) or text


def contrary_pairs(rows: Sequence[Mapping[str, str]], labels: Sequence[object]) -> list[Alike]:
    """Rows of nearly equal texts with unequal labels, the most alike first.

    Args:
        rows: every row's texts by name, each of which must be alike.
        labels: one a row.
    """
    groups: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, texts in enumerate(rows):
        groups[tuple(normalized(text) for text in texts.values())].append(row)
    found = [
        Alike(members[0], row, 1.0)
        for members in groups.values()
        for row in members[1:]
        if labels[row] != labels[members[0]]
    ]
    keys = list(groups)
    for a, b in _candidates([" ".join(key)[:_READ] for key in keys]):
        one, other = groups[keys[a]], groups[keys[b]]
        second = next((row for row in other if labels[row] != labels[one[0]]), None)
        if second is None:
            continue
        similarity = min((_jaccard(*pair) for pair in zip(keys[a], keys[b], strict=False)), default=0.0)
        if similarity >= LEAST and len(keys[a]) == len(keys[b]):
            found.append(Alike(one[0], second, similarity))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def _jaccard(one: str, other: str) -> float:
    a, b = _grams(one), _grams(other)
    return len(a & b) / len(a | b)


def _grams(text: str) -> set[str]:
    text = text[:_READ]
    return {text[i : i + _GRAM] for i in range(max(1, len(text) - _GRAM + 1))}


def _candidates(texts: Sequence[str]) -> list[tuple[int, int]]:
    """Pairs of texts that share all hashes of a band."""
    if len(texts) < 2:
        return []
    signatures = _signatures(texts)
    found: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        part = signatures[:, band * _OF_BAND : (band + 1) * _OF_BAND]
        order = np.lexsort(part.T)
        ordered = part[order]
        same = (ordered[1:] == ordered[:-1]).all(1)
        bucket = np.concatenate([[0], np.cumsum(~same)])
        for step in range(1, min(_NEXT, len(texts) - 1) + 1):
            at = np.flatnonzero(bucket[step:] == bucket[:-step])
            if not len(at):
                break
            low, high = np.sort(np.stack([order[at], order[at + step]]), 0)
            found.update(zip(low.tolist(), high.tolist(), strict=True))
    return sorted(found)


def _signatures(texts: Sequence[str]) -> Hashes:
    """MinHash of every text's 4-grams. Shape: (texts, bands * hashes of a band)."""
    rng = np.random.default_rng(0)
    factors = rng.integers(1, 2**63, _BANDS * _OF_BAND, dtype=np.uint64) | np.uint64(1)
    shifts = rng.integers(0, 2**63, _BANDS * _OF_BAND, dtype=np.uint64)
    result = np.empty((len(texts), len(factors)), np.uint64)
    begin = 0
    while begin < len(texts):
        end, grams, starts = begin, list[Hashes](), [0]
        while end < len(texts) and starts[-1] < _BLOCK:
            grams.append(_hashed(texts[end]))
            starts.append(starts[-1] + len(grams[-1]))
            end += 1
        values = np.concatenate(grams)
        for column, (factor, shift) in enumerate(zip(factors, shifts, strict=True)):
            mixed = values * factor + shift
            mixed ^= mixed >> np.uint64(32)
            result[begin:end, column] = np.minimum.reduceat(mixed, starts[:-1])
        begin = end
    return result


def _hashed(text: str) -> Hashes:
    """A number for every 4-gram of a text; of a shorter text one. Shape: (grams,)."""
    codes = np.frombuffer(text.ljust(_GRAM).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    count = len(codes) - _GRAM + 1
    mixed = np.zeros(count, np.uint64)
    for offset in range(_GRAM):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + codes[offset : offset + count]
        mixed ^= mixed >> np.uint64(29)
    return mixed
