"""Pre-training instances as google-research/bert's create_pretraining_data.py draws them, one by one.

All randomness is one `random.Random(seed)` read in a fixed order, so the same text, vocabulary and seed give the same
instances. The order is part of each function's description.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from bertune.options import option

Sentence = Sequence[str]
"""Word pieces."""


@dataclass(frozen=True)
class InstanceOptions:
    """Numbers of create_pretraining_data.py, under its flags' names and with its defaults."""

    do_whole_word_mask: bool = option(False, help="mask all pieces of a word together")
    max_seq_length: int = option(128, help="longest sequence in tokens, special tokens included")
    max_predictions_per_seq: int = option(20, help="most masked tokens of a sequence")
    random_seed: int = option(12345, help="seed of all random choices")
    dupe_factor: int = option(10, help="passes over the text, each with different masks")
    masked_lm_prob: float = option(0.15, help="share of tokens to mask")
    short_seq_prob: float = option(0.1, help="share of documents whose sequences are shorter than the longest")


@dataclass(frozen=True)
class Instance:
    """A masked pair of sentences.

    tokens: with [CLS], [SEP] and masks.  segment_ids: 0 or 1 a token.  is_random_next: whether B came from elsewhere.
    masked_lm_positions, masked_lm_labels: where the masks are, ascending, and what stood there.
    """

    tokens: list[str]
    segment_ids: list[int]
    is_random_next: bool
    masked_lm_positions: list[int]
    masked_lm_labels: list[str]


def google_instances(
    documents: Sequence[Sequence[Sentence]], vocabulary: Sequence[str], options: InstanceOptions
) -> list[Instance]:
    """All instances of a text, shuffled.

    Draws: the documents are shuffled; every pass takes them in that order; at the end the instances are shuffled.

    Args:
        documents: sentences of every document as word pieces, none of them empty; empty documents are left out.
        vocabulary: its entries in file order, each once; random words are drawn from it.
        options: lengths, rates, seed.
    """
    rng = random.Random(options.random_seed)
    shuffled = [document for document in documents if document]
    rng.shuffle(shuffled)
    drawn = _Drawing(shuffled, vocabulary, options, rng)
    instances = [
        instance
        for _ in range(options.dupe_factor)
        for index in range(len(shuffled))
        for instance in drawn.from_document(index)
    ]
    rng.shuffle(instances)
    return instances


def google_record(
    instance: Instance, ids: Mapping[str, int], options: InstanceOptions
) -> dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float32]]:
    """The features of an instance as its TFRecord holds them, zeros behind the real ones."""
    length, most = options.max_seq_length, options.max_predictions_per_seq
    masked = len(instance.masked_lm_positions)
    return {
        "input_ids": _filled([ids[token] for token in instance.tokens], length),
        "input_mask": _filled([1] * len(instance.tokens), length),
        "segment_ids": _filled(instance.segment_ids, length),
        "masked_lm_positions": _filled(instance.masked_lm_positions, most),
        "masked_lm_ids": _filled([ids[label] for label in instance.masked_lm_labels], most),
        "masked_lm_weights": _filled([1] * masked, most).astype(np.float32),
        "next_sentence_labels": np.array([int(instance.is_random_next)]),
    }


def _filled(values: Sequence[int], length: int) -> npt.NDArray[np.int64]:
    filled = np.zeros(length, np.int64)
    filled[: len(values)] = values
    return filled


@dataclass(frozen=True)
class _Drawing:
    """What every draw needs: the shuffled documents, the vocabulary, the numbers, the one source of chance."""

    documents: Sequence[Sequence[Sentence]]
    vocabulary: Sequence[str]
    options: InstanceOptions
    rng: random.Random

    def from_document(self, index: int) -> Iterator[Instance]:
        """One pass over a document.

        Draws: whether the target length is short, and then which; for every chunk of sentences that reaches it, where A
        ends (two sentences or more), whether B is random (likewise), B's document and sentence, cuts, masks.
        """
        document = self.documents[index]
        room = self.options.max_seq_length - 3
        target = self.rng.randint(2, room) if self.rng.random() < self.options.short_seq_prob else room
        position, chunk = 0, list[Sentence]()
        while position < len(document):
            chunk.append(document[position])
            if position == len(document) - 1 or sum(map(len, chunk)) >= target:
                end = self.rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
                first = list(chain.from_iterable(chunk[:end]))
                is_random = len(chunk) == 1 or self.rng.random() < 0.5
                if is_random:
                    second = self._from_elsewhere(index, target - len(first))
                    position -= len(chunk) - end  # what the chunk did not use is read again
                else:
                    second = list(chain.from_iterable(chunk[end:]))
                self._cut(first, second, room)
                yield self._instance(first, second, is_random)
                chunk = []
            position += 1

    def _from_elsewhere(self, index: int, length: int) -> list[str]:
        """Sentences of another document, at least `length` pieces where it has them.

        Draws: a document, up to ten times until it is another one; its first sentence.
        """
        for _ in range(10):
            other = self.rng.randint(0, len(self.documents) - 1)
            if other != index:
                break
        document = self.documents[other]
        pieces = list[str]()
        for sentence in document[self.rng.randint(0, len(document) - 1) :]:
            pieces.extend(sentence)
            if len(pieces) >= length:
                break
        return pieces

    def _cut(self, first: list[str], second: list[str], room: int) -> None:
        """Shorten the longer side, the second where both are equal, until both fit.

        Draws: for every piece, whether it goes at the front.
        """
        while len(first) + len(second) > room:
            longer = first if len(first) > len(second) else second
            del longer[0 if self.rng.random() < 0.5 else -1]

    def _instance(self, first: list[str], second: list[str], is_random: bool) -> Instance:
        tokens = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
        segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
        masked = self._masked(tokens)
        labels = [tokens[position] for position in masked]
        for position, token in masked.items():
            tokens[position] = token
        return Instance(tokens, segments, is_random, list(masked), labels)

    def _masked(self, tokens: Sequence[str]) -> dict[int, str]:
        """What stands at every chosen position, ascending.

        Draws: the candidates are shuffled; for every position of a group that is taken, whether it becomes [MASK], else
        whether it stays, else which entry of the vocabulary comes there. Groups that would exceed the number are passed
        over.
        """
        groups: list[list[int]] = []
        for position, token in enumerate(tokens):
            if token in {"[CLS]", "[SEP]"}:
                continue
            if self.options.do_whole_word_mask and groups and token.startswith("##"):
                groups[-1].append(position)
            else:
                groups.append([position])
        self.rng.shuffle(groups)
        wanted = max(1, round(len(tokens) * self.options.masked_lm_prob))
        number = min(self.options.max_predictions_per_seq, wanted)
        masked: dict[int, str] = {}
        for group in groups:
            if len(masked) >= number:
                break
            if len(masked) + len(group) <= number:
                masked |= {position: self._replacement(tokens[position]) for position in group}
        return dict(sorted(masked.items()))

    def _replacement(self, token: str) -> str:
        if self.rng.random() < 0.8:
            return "[MASK]"
        if self.rng.random() < 0.5:
            return token
        return self.vocabulary[self.rng.randint(0, len(self.vocabulary) - 1)]
