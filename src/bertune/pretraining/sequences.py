"""Training sequences over a tokenized corpus: where each lies, decided once; nothing is copied before it is needed."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError
from bertune.features import IntArray, Offsets, Ragged
from bertune.pretraining.token_corpus import TokenStream, release
from bertune.tokenization.special_tokens import SpecialTokens

Rows = npt.NDArray[np.int64]
_FIELDS = 5
_RELEASE_EVERY = 10_000
"""Documents after which mapped pages are let go of."""


@dataclass(frozen=True)
class SequenceBatch:
    """Some sequences.

    ids: with special tokens, `~id` where one continues a word.  segments: 0 or 1 a token.
    next_sentence: 0 where B follows A, 1 where it comes from elsewhere; None without pairs.
    """

    ids: Ragged
    segments: Ragged
    next_sentence: npt.NDArray[np.int64] | None = None


class Sequences(Protocol):
    """Sequences by number."""

    def __len__(self) -> int: ...

    def take(self, rows: Rows) -> SequenceBatch:
        """The sequences of these numbers."""
        ...


class FullSequences:
    """`[CLS] tokens [SEP]` of full length, cut from documents that lie end to end with separators between them."""

    def __init__(self, stream: TokenStream, special: SpecialTokens, length: int) -> None:
        """special: [CLS] and [SEP].  length: tokens of a sequence, special ones included."""
        self._stream, self._special, self._room = stream, special, length - 2
        sizes = np.diff(stream.starts)
        counts = sizes // self._room
        counts += (sizes - counts * self._room) > min(8, self._room - 1)  # a rest of a few tokens teaches nothing
        if not counts.sum() and stream.total > 1:
            counts[sizes > 1] = 1
        self._first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._first[-1])

    def take(self, rows: Rows) -> SequenceBatch:
        """The sequences of these numbers."""
        shards = np.searchsorted(self._first, rows, side="right") - 1
        first = self._stream.starts[shards] + (rows - self._first[shards]) * self._room
        end = np.minimum(first + self._room, self._stream.starts[shards + 1])
        ids = _framed([self._stream.gather(first, end)], self._special)
        return SequenceBatch(ids, Ragged(np.zeros(len(ids.values), np.int32), ids.offsets))


class PairSequences:
    """`[CLS] A [SEP] B [SEP]`, where B follows A in its document or comes from another one."""

    def __init__(self, stream: TokenStream, pairs: npt.NDArray[np.int64], special: SpecialTokens) -> None:
        """pairs: start and end of A and of B in tokens of the whole, and the label. Shape: (sequences, 5)."""
        self._stream, self._pairs, self._special = stream, pairs, special

    def __len__(self) -> int:
        return len(self._pairs)

    def take(self, rows: Rows) -> SequenceBatch:
        """The sequences of these numbers."""
        chosen = self._pairs[rows]
        release(self._pairs)
        first = self._stream.gather(chosen[:, 0], chosen[:, 1])
        second = self._stream.gather(chosen[:, 2], chosen[:, 3])
        ids = _framed([first, second], self._special)
        lengths = np.stack([first.lengths + 1 + self._special.separators, second.lengths + 1], 1)
        segments = np.repeat(np.tile([0, 1], len(rows)), lengths.reshape(-1)).astype(np.int32)
        return SequenceBatch(ids, Ragged(segments, ids.offsets), chosen[:, 4])


def _framed(parts: list[Ragged], special: SpecialTokens) -> Ragged:
    """[CLS], the parts with the tokenizer's separators between them, and a [SEP] behind the last."""
    cls, sep = np.array([special.cls], np.int32), np.array([special.sep], np.int32)
    behind = [sep.repeat(special.separators)] * (len(parts) - 1) + [sep]
    pieces: list[IntArray] = []
    for i in range(len(parts[0])):
        pieces.append(cls)
        for part, separators in zip(parts, behind, strict=True):
            pieces += [part[i], separators]
    alone = 1 + sum(map(len, behind))
    lengths = sum((part.lengths for part in parts), np.full(len(parts[0]), alone, np.int64))
    return Ragged.from_lengths(np.concatenate(pieces) if pieces else np.zeros(0, np.int32), lengths)


@dataclass(frozen=True)
class PairRules:
    """How documents become pairs, as create_pretraining_data.py makes them. length: special tokens included."""

    length: int
    short_probability: float = 0.1
    seed: int = 0


def pair_sequences(
    folder: Path, stream: TokenStream, side: str, rules: PairRules, special: SpecialTokens
) -> PairSequences:
    """The pairs of a corpus, drawn once and kept in its folder.

    Documents of one sentence are left out.

    Raises:
        InputError: fewer than two documents, so that no B can come from another one.
    """
    usable = _Usable(stream)
    if len(usable) < 2:
        raise InputError(
            f"next sentence needs at least two documents of two or more sentences; the {side} part has {len(usable)}. "
            "Put blank lines between documents, give more text, or add --no-next-sentence"
        )
    path = folder / f"pairs-{side}-{rules.length}-{rules.short_probability}-{rules.seed}.int64"
    if not path.is_file():
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        with beside.open("wb") as file:
            for pairs in _drawn_pairs(usable, rules):
                file.write(pairs.tobytes())
        beside.replace(path)
        stream.release()
    return PairSequences(
        stream,
        np.asarray(np.memmap(path, np.int64, mode="r", shape=(path.stat().st_size // (8 * _FIELDS), _FIELDS))),
        special,
    )


class _Usable:
    """The documents of two or more sentences, over all shards."""

    def __init__(self, stream: TokenStream) -> None:
        self.stream = stream
        counts = []
        for documents in stream.documents:
            sentences = np.diff(documents) - 1  # the separator is an entry of its own
            counts.append(np.flatnonzero(sentences > 1).astype(np.int32))
        self._of = counts
        self._first = np.concatenate([[0], np.cumsum([len(part) for part in counts])]).astype(np.int64)

    def __len__(self) -> int:
        return int(self._first[-1])

    def bounds(self, index: int) -> Offsets:
        """Starts of a document's sentences, and the last one's end, in tokens of the whole."""
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        document = int(self._of[shard][index - self._first[shard]])
        documents = self.stream.documents[shard]
        bounds = self.stream.sentences[shard][documents[document] : documents[document + 1]]
        found: Offsets = bounds + self.stream.starts[shard]
        return found


def _drawn_pairs(usable: _Usable, rules: PairRules) -> Iterator[npt.NDArray[np.int64]]:
    """The pairs of every document. Shape: (pairs, 5) each."""
    rng = np.random.default_rng(rules.seed)
    room = rules.length - 3
    for index in range(len(usable)):
        if index % _RELEASE_EVERY == 0:
            usable.stream.release()
        bounds = usable.bounds(index)
        target = int(rng.integers(2, room + 1)) if rng.random() < rules.short_probability else room
        pairs, at, count = [], 0, len(bounds) - 1
        while at < count:
            end = min(int(np.searchsorted(bounds, bounds[at] + target)), count)
            end = max(end, at + 1)
            middle = at + int(rng.integers(1, end - at)) if end - at > 1 else end
            if end - at == 1 or rng.random() < 0.5:
                second = _from_elsewhere(usable, index, target - int(bounds[middle] - bounds[at]), rng)
                pair, after = [bounds[at], bounds[middle], *second, 1], middle
            else:
                pair, after = [bounds[at], bounds[middle], bounds[middle], bounds[end], 0], end
            pairs.append(_cut(np.array(pair, np.int64), room, rng))
            at = after
        yield np.stack(pairs)


def _from_elsewhere(usable: _Usable, index: int, length: int, rng: np.random.Generator) -> tuple[int, int]:
    """Sentences of another document, at least `length` tokens where it has them: first token and end."""
    other = (index + 1 + int(rng.integers(len(usable) - 1))) % len(usable)
    bounds = usable.bounds(other)
    start = int(rng.integers(len(bounds) - 1))
    end = min(int(np.searchsorted(bounds, bounds[start] + max(length, 1))), len(bounds) - 1)
    return int(bounds[start]), int(bounds[max(end, start + 1)])


def _cut(pair: npt.NDArray[np.int64], room: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Shorten the longer side, then both alike, each token at the front or at the back with equal chance."""
    a, b = int(pair[1] - pair[0]), int(pair[3] - pair[2])
    excess = a + b - room
    if excess <= 0:
        return pair
    kept_a = min(a, max(room - b, (room + 1) // 2))
    kept_b = room - kept_a
    for first, loss in ((0, a - kept_a), (2, b - kept_b)):
        front = int(rng.binomial(loss, 0.5))
        pair[first] += front
        pair[first + 1] -= loss - front
    return pair
