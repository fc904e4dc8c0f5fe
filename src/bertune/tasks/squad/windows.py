"""Windows over long contexts: [CLS] question [SEP] window [SEP], by characters and token offsets.

Tokenizers of RoBERTa's kind want two separators behind the question.

No words are looked for, so texts without spaces give exact spans too. A context that several questions share is
tokenized once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError
from bertune.features import IntArray, Offsets, Ragged
from bertune.tasks.squad.reading import QuestionExample

if TYPE_CHECKING:
    from bertune.tokenization.special_tokens import SpecialTokens
    from bertune.tokenization.tokenizer import Tokenizer

EXAMPLES_AT_A_TIME = 4096  # bounds the scratch memory, which is several times the result's


@dataclass(frozen=True, slots=True)
class Windows:
    """Every window of every question, in order, as columns.

    input_ids, segment_ids: the tokens [CLS] question [SEP] window [SEP], and 0 up to the first [SEP], then 1.
    example_index: the question of each window, an index into the examples given. Shape: (windows,).
    context_start: position inside the window of its first context token. Shape: (windows,).
    char_start, char_end: span in the context of every context token of the window, in code points, end exclusive.
    max_context: 1 where this window shows the context token with the most text on both sides, else 0.
    start_position, end_position: first and last token of the answer, 0 ([CLS]) without one. Shape: (windows,).
    cut: whether tokens of the window's context are in no window. Shape: (windows,), bool.
    questions_cut: how many questions were longer than max_query_length.
    unaligned: ids of the answerable questions whose answers match no token of the context.
    """

    input_ids: Ragged
    segment_ids: Ragged
    example_index: IntArray
    context_start: IntArray
    char_start: Ragged
    char_end: Ragged
    max_context: Ragged
    start_position: IntArray
    end_position: IntArray
    cut: npt.NDArray[np.bool_]
    questions_cut: int
    unaligned: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.example_index)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the windows lie, and what is in them. All but the ragged columns have Shape: (windows,).

    first: index in the context of the window's first context token.  length: context tokens in the window.
    source: indices of the windows' context tokens among the values of all contexts. Shape: (context tokens,).
    """

    example_index: IntArray
    first: Offsets
    length: Offsets
    context_start: IntArray
    input_ids: Ragged
    segment_ids: Ragged
    source: Offsets
    max_context: Ragged


def check_lengths(max_seq_length: int, doc_stride: int, max_query_length: int, separators: int = 1) -> None:
    """Refuse lengths that leave no room for the context. separators: those behind the question.

    Raises:
        InputError: naming the option, its value and what is legal.
    """
    if doc_stride < 1:
        raise InputError(f"doc_stride is {doc_stride}; it is the step between windows in tokens, at least 1")
    if max_query_length < 1:
        raise InputError(f"max_query_length is {max_query_length}; a question needs at least 1 token")
    specials = 2 + separators
    if max_seq_length <= max_query_length + specials:
        raise InputError(
            f"max_seq_length is {max_seq_length}, which leaves no room for the context beside a question of "
            f"{max_query_length} tokens (max_query_length) and {specials} special tokens; make it at least "
            f"{max_query_length + specials + 1}"
        )


def build_windows(
    examples: Sequence[QuestionExample],
    tokenizer: "Tokenizer",
    *,
    training: bool,
    max_seq_length: int = 384,
    doc_stride: int = 128,
    max_query_length: int = 64,
    truncate: bool = False,
) -> Windows:
    """Cut every context into windows beside its question.

    Every question gets at least one window, also where its context has no tokens (but see `training`); no context
    token falls between windows, whatever the stride.

    Args:
        examples: questions; the first answer that stands in its context is the target.
        tokenizer: gives ids and their code points.
        training: leave out the questions whose answers match no token; else their target is [CLS].
        max_seq_length: longest window in tokens, special ones counted.
        doc_stride: tokens between the starts of two windows, not their overlap.
        max_query_length: tokens of the question that are kept.
        truncate: keep only the first window of every question.

    Raises:
        InputError: lengths that leave no room.
    """
    check_lengths(max_seq_length, doc_stride, max_query_length, tokenizer.special.separators)
    numbers: dict[str, int] = {}
    context_of = np.array([numbers.setdefault(example.context, len(numbers)) for example in examples], np.int64)
    contexts, starts, ends = tokenizer.encode_with_offsets(list(numbers))
    questions = tokenizer.encode([example.question for example in examples])
    targets, lost = _answer_tokens(examples, context_of, starts, ends)
    kept = np.flatnonzero(~lost) if training else np.arange(len(examples))
    layout = lay_out(
        cut_questions(questions.take(kept), max_query_length),
        contexts,
        context_of[kept],
        tokenizer.special,
        (max_seq_length, max_seq_length if truncate else doc_stride),  # windows that do not overlap, to keep the first
    )
    cut = np.zeros(len(layout.first), np.bool_)
    if truncate:
        layout, cut = _first_windows(layout, contexts.lengths[context_of[kept]])
    start, end = positions(layout, targets[kept])
    return Windows(
        input_ids=layout.input_ids,
        segment_ids=layout.segment_ids,
        example_index=kept[layout.example_index].astype(np.int32),
        context_start=layout.context_start,
        char_start=Ragged.from_lengths(starts.values[layout.source], layout.length),
        char_end=Ragged.from_lengths(ends.values[layout.source], layout.length),
        max_context=layout.max_context,
        start_position=start,
        end_position=end,
        cut=cut,
        questions_cut=int((questions.lengths[kept] > max_query_length).sum()),
        unaligned=tuple(examples[int(index)].id for index in np.flatnonzero(lost)),
    )


def cut_questions(questions: Ragged, longest: int) -> Ragged:
    """The first `longest` tokens of every question."""
    lengths = np.minimum(questions.lengths, longest)
    return Ragged.from_lengths(questions.values[ranges(questions.offsets[:-1], lengths)], lengths)


def lay_out(
    questions: Ragged,
    contexts: Ragged,
    context_of: npt.NDArray[np.int64],
    special: "SpecialTokens",
    lengths: tuple[int, int],
    *,
    always: bool = True,
) -> Layout:
    """Place windows over contexts and write them down.

    Windows start at 0, step, 2·step, … until one reaches the context's end; step = min(doc_stride, room), where room
    is what the question leaves of the window (google-research/bert, run_squad.py).

    Args:
        questions: question tokens, already cut. Shape: (examples,) sequences.
        contexts: context tokens.
        context_of: index of each example's context. Shape: (examples,).
        special: [CLS] and [SEP], and how many of the latter stand behind the question.
        lengths: max_seq_length and doc_stride.
        always: a context without tokens still gets one window.
    """
    parts = []
    for begin in range(0, max(len(questions), 1), EXAMPLES_AT_A_TIME):
        chosen = np.arange(begin, min(begin + EXAMPLES_AT_A_TIME, len(questions)))
        part = _lay_out_some(questions.take(chosen), contexts, context_of[chosen], special, lengths, always)
        parts.append(replace(part, example_index=part.example_index + np.int32(begin)))
    if len(parts) == 1:
        return parts[0]
    return Layout(
        example_index=np.concatenate([part.example_index for part in parts]),
        first=np.concatenate([part.first for part in parts]),
        length=np.concatenate([part.length for part in parts]),
        context_start=np.concatenate([part.context_start for part in parts]),
        input_ids=_joined([part.input_ids for part in parts]),
        segment_ids=_joined([part.segment_ids for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        max_context=_joined([part.max_context for part in parts]),
    )


def _first_windows(layout: Layout, total: npt.NDArray[np.int64]) -> tuple[Layout, npt.NDArray[np.bool_]]:
    """The first window of every example alone, and whether its context goes on behind it. total: contexts' lengths."""
    kept = np.flatnonzero(layout.first == 0)
    first = Layout(
        example_index=layout.example_index[kept],
        first=layout.first[kept],
        length=layout.length[kept],
        context_start=layout.context_start[kept],
        input_ids=layout.input_ids.take(kept),
        segment_ids=layout.segment_ids.take(kept),
        source=layout.source[np.repeat(layout.first == 0, layout.length)],
        max_context=layout.max_context.take(kept),
    )
    return first, first.length < total[first.example_index]


def _joined(parts: Sequence[Ragged]) -> Ragged:
    values = np.concatenate([part.values for part in parts])
    return Ragged.from_lengths(values, np.concatenate([part.lengths for part in parts]))


def _lay_out_some(
    questions: Ragged,
    contexts: Ragged,
    context_of: npt.NDArray[np.int64],
    special: "SpecialTokens",
    lengths: tuple[int, int],
    always: bool,
) -> Layout:
    before = 1 + special.separators  # special tokens before the context
    room = lengths[0] - before - 1 - questions.lengths
    step = np.minimum(room, lengths[1])
    total = contexts.lengths[context_of]
    counts = 1 + np.maximum(0, -(-(total - room) // step))
    if not always:
        counts[total == 0] = 0
    example = np.repeat(np.arange(len(questions)), counts)
    first = ranges(np.zeros_like(counts), counts) * step[example]
    length = np.minimum(total[example] - first, room[example])
    asked = questions.lengths[example]
    offsets = np.zeros(len(example) + 1, np.int64)
    np.cumsum(asked + length + before + 1, out=offsets[1:])
    begins = offsets[:-1]
    source = ranges(contexts.offsets[context_of[example]] + first, length)
    places = ranges(begins + asked + before, length)
    ids = np.full(int(offsets[-1]), special.sep, np.int32)
    ids[begins] = special.cls
    ids[ranges(begins + 1, asked)] = questions.values[ranges(questions.offsets[example], asked)]
    ids[places] = contexts.values[source]
    segments = np.zeros(len(ids), np.int32)
    segments[places] = 1
    segments[offsets[1:] - 1] = 1
    return Layout(
        example_index=example.astype(np.int32),
        first=first,
        length=length,
        context_start=(asked + before).astype(np.int32),
        input_ids=Ragged(ids, offsets),
        segment_ids=Ragged(segments, offsets),
        source=source,
        max_context=_max_context(example, first, length, total),
    )


def _max_context(example: Offsets, first: Offsets, length: Offsets, total: Offsets) -> Ragged:
    """1 where the window is the first of those with the best score for the token, else 0.

    The score is min(tokens to the left, tokens to the right) + 0.01 · window length (google-research/bert,
    run_squad.py). Shape of `total`: (examples,); the others: (windows,).
    """
    bases = np.concatenate([np.zeros(1, np.int64), np.cumsum(total)])
    window = np.repeat(np.arange(len(example)), length)
    left = ranges(np.zeros_like(length), length)
    score = np.minimum(left, length[window] - 1 - left) + 0.01 * length[window]
    token = (bases[:-1][example] + first)[window] + left
    best = np.full(int(bases[-1]), -1.0)
    np.maximum.at(best, token, score)
    candidates = np.flatnonzero(score == best[token])[::-1]
    winner = np.zeros(len(best), np.int64)
    winner[token[candidates]] = window[candidates]  # of equal indices the last is kept, and they come in reverse
    return Ragged.from_lengths((winner[token] == window).astype(np.int32), length)


def positions(layout: Layout, targets: npt.NDArray[np.int64]) -> tuple[IntArray, IntArray]:
    """First and last token of the answer inside every window; 0, 0 ([CLS]) where it is not wholly inside.

    targets: first and last context token of each example's answer, -1 without one. Shape: (examples, 2).
    """
    start, end = targets[layout.example_index, 0], targets[layout.example_index, 1]
    inside = (start >= layout.first) & (end < layout.first + layout.length)
    shift = layout.context_start - layout.first
    return (
        np.where(inside, start + shift, 0).astype(np.int32),
        np.where(inside, end + shift, 0).astype(np.int32),
    )


def ranges(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """start, start + 1, … (length numbers) for each pair, end to end. Shape: (sum of lengths,)."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    shifts: npt.NDArray[np.int64] = np.repeat(starts[: len(lengths)] - (ends - lengths), lengths)
    return np.arange(total, dtype=np.int64) + shifts


def _answer_tokens(
    examples: Sequence[QuestionExample], context_of: npt.NDArray[np.int64], starts: Ragged, ends: Ragged
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """First and last context token of every question's answer (-1 without one), and which answers match no token.

    Shape: (examples, 2) and (examples,). The span is the smallest run of tokens that covers the answer's characters.
    """
    spans = np.full((len(examples), 2), -1, np.int64)
    answered = np.zeros(len(examples), bool)
    for index, example in enumerate(examples):
        answered[index] = bool(example.answers) and not example.is_impossible
        answer = next((answer for answer in example.answers if answer.start >= 0), None)
        if answered[index] and answer is not None:
            spans[index] = answer.start, answer.start + len(answer.text)
    found = spans[:, 0] >= 0
    # One sorted key for all contexts: the context's number above, the character below.
    owner = np.repeat(np.arange(len(starts)), starts.lengths) << 32
    base = context_of << 32
    bounds = starts.offsets[context_of], starts.offsets[context_of + 1] if len(examples) else starts.offsets[:0]
    first = np.searchsorted(owner + ends.values, base + spans[:, 0], side="right")
    last = np.searchsorted(owner + starts.values, base + spans[:, 1], side="left") - 1
    found &= (first <= last) & (first >= bounds[0]) & (last < bounds[1])
    targets = np.where(found[:, None], np.stack([first, last], axis=1) - bounds[0][:, None], -1)
    return targets, answered & ~found
