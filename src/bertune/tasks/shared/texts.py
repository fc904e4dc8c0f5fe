"""Texts and pairs of texts as features, shared by tasks on whole texts; what becomes of texts that are too long."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from bertune.data.columns import guess_text_columns, is_customary, named
from bertune.data.pairs import cut_pair, join_pair
from bertune.data.windows import place_windows
from bertune.errors import InputError
from bertune.features import Column, Features, Ragged
from bertune.tasks.protocol import Logits
from bertune.tokenization.special_tokens import SpecialTokens
from bertune.tokenization.tokenizer import Tokenizer


class Texts(Protocol):
    """An example that has a text, and perhaps a second one."""

    @property
    def text(self) -> str:
        """The text, or the first of a pair."""
        ...

    @property
    def pair(self) -> str | None:
        """The second text."""
        ...


def text_features(
    examples: Sequence[Texts],
    tokenizer: Tokenizer,
    max_seq_length: int,
    targets: Mapping[str, Column] | None = None,
    long_text: str = "truncate",
) -> Features:
    """`[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]` for every example.

    Args:
        examples: texts.
        tokenizer: gives the pieces.
        max_seq_length: longest sequence, special tokens included.
        targets: arrays with one entry an example; a window has its example's.
        long_text: truncate: as google-research/bert cuts, from the end of the longer text. head-tail: the same numbers
            of tokens, a quarter of them from the beginning and the rest from the end (Sun et al., 2019, "How to
            fine-tune BERT for text classification?"). window: several sequences, each about half over the one before;
            of a pair, over its longer text (of equal ones the second), beside at most half a sequence of the other.
    """
    first = tokenizer.encode([example.text for example in examples])
    paired = any(example.pair for example in examples)
    second = tokenizer.encode([example.pair or "" for example in examples]) if paired else None
    index = np.arange(len(examples))
    lost = np.zeros(len(examples), np.bool_)
    if long_text == "head-tail":
        first, second, lost = _without_middles(first, second, tokenizer.special, max_seq_length)
    elif long_text == "window":
        first, second, index, lost = _in_windows(first, second, tokenizer.special, max_seq_length)
    ids, segments, cut = join_pair(first, second, tokenizer.special, max_seq_length)
    chosen = {name: _taken(column, index) for name, column in (targets or {}).items()}
    return Features(ids, segments, index.astype(np.int32), chosen, cut | lost)


def _taken(column: Column, index: npt.NDArray[np.int64]) -> Column:
    return column.take(index) if isinstance(column, Ragged) else column[index]


def _without_middles(
    first: Ragged, second: Ragged | None, special: SpecialTokens, limit: int
) -> tuple[Ragged, Ragged | None, npt.NDArray[np.bool_]]:
    a = first.lengths
    b = second.lengths if second is not None else np.zeros_like(a)
    a_new, b_new = cut_pair(a, b, np.maximum(0, limit - special.around(b > 0)))
    shorter = None if second is None else _head_and_tail(second, b_new)
    return _head_and_tail(first, a_new), shorter, (a_new < a) | (b_new < b)


def _head_and_tail(pieces: Ragged, lengths: npt.NDArray[np.int64]) -> Ragged:
    """Of every sequence `lengths` tokens: a quarter of them from its beginning, the rest from its end."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    from_head = np.repeat(np.where(lengths < pieces.lengths, lengths // 4, lengths), lengths)
    shift = np.repeat(pieces.lengths - lengths, lengths)
    at = np.repeat(pieces.offsets[:-1], lengths) + within + np.where(within < from_head, 0, shift)
    return Ragged.from_lengths(pieces.values[at], lengths)


def without_middles(pieces: Ragged, limit: int, long_text: str) -> Ragged:
    """At most `limit` tokens of every sequence: the first (truncate), or a quarter of them and the last (head-tail)."""
    lengths = np.minimum(pieces.lengths, limit)
    return _heads(pieces, lengths) if long_text == "truncate" else _head_and_tail(pieces, lengths)


def _in_windows(
    first: Ragged, second: Ragged | None, special: SpecialTokens, limit: int
) -> tuple[Ragged, Ragged | None, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """The windows' texts, the example of each, and whether it lost tokens nevertheless."""
    if second is None:
        long, beside, paired = first, np.zeros(len(first), np.int64), np.zeros(len(first), np.bool_)
    else:
        over_first, paired = first.lengths > second.lengths, second.lengths > 0
        long, short = _either(over_first, first, second), _either(over_first, second, first)
        beside = np.minimum(short.lengths, max(1, (limit - 2 - special.separators) // 2))
    room = np.maximum(1, limit - special.around(paired) - beside)
    windows = place_windows(long.lengths, room, np.maximum(1, np.where(paired, room, limit) // 2))
    lengths = windows.end - windows.first
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    at = np.repeat(long.offsets[windows.example] + windows.first, lengths) + within
    shown = Ragged.from_lengths(long.values[at], lengths)
    if second is None:
        return shown, None, windows.example, np.zeros(len(shown), np.bool_)
    head = _heads(short, beside).take(windows.example)
    lost = (short.lengths > beside)[windows.example]
    swapped = over_first[windows.example]
    return _either(swapped, shown, head), _either(swapped, head, shown), windows.example, lost


def _heads(pieces: Ragged, lengths: npt.NDArray[np.int64]) -> Ragged:
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Ragged.from_lengths(pieces.values[np.repeat(pieces.offsets[:-1], lengths) + within], lengths)


def _either(which: npt.NDArray[np.bool_], one: Ragged, other: Ragged) -> Ragged:
    """Sequences of `one` where `which` holds, of `other` elsewhere."""
    both = Ragged.from_lengths(np.concatenate([one.values, other.values]), np.concatenate([one.lengths, other.lengths]))
    return both.take(np.where(which, 0, len(one)) + np.arange(len(one)))


def by_example(logits: Logits, features: Features, examples: int) -> npt.NDArray[np.float32]:
    """Logits of every example, those of several windows averaged. Shape: (examples, outputs)."""
    if not len(logits):
        return np.zeros((examples, 0), np.float32)
    return mean_of(np.stack(list(logits)).astype(np.float32, copy=False), features.example_index, examples)


def mean_of(rows: npt.NDArray[np.float32], owner: npt.NDArray[np.integer], owners: int) -> npt.NDArray[np.float32]:
    """The mean of every owner's rows, one at least each. Shape: (rows, outputs) → (owners, outputs)."""
    if len(rows) == owners:
        return rows
    total = np.zeros((owners, rows.shape[1]), np.float32)
    np.add.at(total, owner, rows)
    return total / np.bincount(owner, minlength=owners).astype(np.float32)[:, None]


def text_item(item: object) -> tuple[str, str | None]:
    """Text and pair of what a Python caller hands in: a string, two strings, or a mapping with `text` and `pair`
    or with the customary names of columns (sentence1 and sentence2).

    Raises:
        InputError: anything else.
    """
    if isinstance(item, str):
        return item, None
    if isinstance(item, Mapping):
        text, pair = item.get("text"), item.get("pair")
        if "text" not in item:
            text, pair = _by_customary_names(item)
        if isinstance(text, str) and (pair is None or isinstance(pair, str)):
            return text, pair
    if isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(text, str) for text in item):
        return item[0], item[1]
    raise InputError(f"predict: {item!r} is neither a text nor a pair of texts")


def _by_customary_names(item: Mapping[str, object]) -> tuple[object, object]:
    """Text and pair of a mapping whose keys are the columns of a table."""
    try:
        text, pair = guess_text_columns([str(name) for name in item])
    except InputError as error:
        raise InputError(f"predict: {str(item)[:80]}: {error}") from None
    if not is_customary(text):  # the only column of a table may be called anything, the only key of an item may not
        raise InputError(f"predict: {item!r} is neither a text nor a pair of texts: it has no 'text'")
    return item[text], None if pair is None else item[pair]


def label_index(labels: Sequence[str], label: str | None) -> int:
    """The place of a label among a task's.

    Raises:
        InputError: it is none of them.
    """
    if label not in labels:
        raise InputError(f"the label {label!r} is none of the model's: {named(labels)}")
    return list(labels).index(str(label))


def shown(example: Texts) -> str:
    """A text, or a pair, in one line."""
    return example.text if example.pair is None else f"{example.text} | {example.pair}"
