"""Answers out of start and end logits: the best spans over all windows of a question, as exact character spans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError
from bertune.tasks.characters import readable_span
from bertune.tasks.squad.reading import QuestionExample
from bertune.tasks.squad.windows import Windows

Logits = npt.NDArray[np.floating]
_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer.

    text: `context[start:end]`; "" at 0, 0 stands for "no answer".
    start, end: characters of the context, end exclusive.
    score: probability among the question's candidates (softmax of their logits).
    logit: start logit + end logit.
    """

    text: str
    start: int
    end: int
    score: float
    logit: float


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a question's logits say.

    best: the answer, "" when there is none or "no answer" wins.
    candidates: different texts, best first; with a null threshold "no answer" is one of them.
    span: the best candidate with a text, whatever the threshold; None when nothing could be an answer.
    null_odds: score of "no answer" minus that of `span` (minus 0 without one); greater means rather unanswerable.
    """

    best: Candidate
    candidates: tuple[Candidate, ...]
    span: Candidate | None
    null_odds: float


def decode_answers(
    windows: Windows,
    start_logits: Logits,
    end_logits: Logits,
    examples: Sequence[QuestionExample],
    *,
    n_best: int = 20,
    max_answer_length: int = 30,
    null_threshold: float | None = 0.0,
) -> list[Decoded]:
    """The answers to all questions, in their order.

    A candidate is a run of context tokens of one window, at most `max_answer_length` long, whose first token is at its
    max context. All such runs are considered, and the `n_best` of all windows together are kept, one for each text.
    "No answer" is scored by start + end logit of [CLS], the least over the windows.

    Args:
        windows: from `build_windows(examples, …)`.
        start_logits: of every token, windows end to end, as `windows.input_ids` has them. Shape: (tokens,).
        end_logits: likewise.
        examples: the questions.
        n_best: candidates of a question, besides "no answer".
        max_answer_length: tokens of the longest answer.
        null_threshold: answer "" when null_odds is greater; None: never, when there is any candidate.

    Raises:
        InputError: an option out of range, or logits that are not finite.
    """
    if n_best < 1 or max_answer_length < 1:
        raise InputError(f"n_best is {n_best} and max_answer_length is {max_answer_length}; both are at least 1")
    starts, ends = np.asarray(start_logits, np.float64), np.asarray(end_logits, np.float64)
    tokens = len(windows.input_ids.values)
    if starts.shape != (tokens,) or ends.shape != (tokens,):
        raise ValueError(f"logits of shape {starts.shape} and {ends.shape} for {tokens} tokens")
    if not (np.isfinite(starts).all() and np.isfinite(ends).all()):
        raise InputError("the model gives logits that are infinite or not numbers (NaN); its weights are broken")
    bounds = np.searchsorted(windows.example_index, np.arange(len(examples) + 1))
    begins = windows.input_ids.offsets[:-1]
    nulls = starts[begins] + ends[begins]
    decoded = []
    for index, example in enumerate(examples):
        first, last = int(bounds[index]), int(bounds[index + 1])
        found = [
            _window_spans(windows, window, (starts, ends), n_best, max_answer_length) for window in range(first, last)
        ]
        spans = _distinct(example.context, found, n_best)
        null = float(nulls[first:last].min()) if last > first else 0.0
        decoded.append(_decided(spans, null, null_threshold))
    return decoded


def _window_spans(
    windows: Windows, window: int, logits: tuple[_Floats, _Floats], n_best: int, longest: int
) -> tuple[_Floats, _Ints, _Ints]:
    """Scores and character spans of the window's best runs of tokens, unordered.

    Twice `n_best` of them, because some may have the same text.
    """
    begin = int(windows.input_ids.offsets[window]) + int(windows.context_start[window])
    char_start, char_end = windows.char_start[window], windows.char_end[window]
    count, wanted = len(char_start), 2 * n_best
    ends = np.full(count + longest - 1, -np.inf)
    ends[:count] = logits[1][begin : begin + count]
    rows = np.flatnonzero(windows.max_context[window])
    if not len(rows):
        return np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64)
    starts = logits[0][begin + rows]
    reach: _Floats = np.lib.stride_tricks.sliding_window_view(ends, longest)[rows]  # row i: the ends of starts i
    # The best runs begin at the starts whose own best run is best, so no others need be looked at.
    chosen = _top(starts + reach.max(axis=1), wanted)
    scores = (starts[chosen, None] + reach[chosen]).ravel()
    best = _top(scores, wanted)
    best = best[scores[best] > -np.inf]
    first = rows[chosen[best // longest]]
    last = first + best % longest
    return scores[best], char_start[first].astype(np.int64), char_end[last].astype(np.int64)


def _top(values: _Floats, count: int) -> _Ints:
    """Indices of the greatest values, in ascending order of index."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.sort(np.argpartition(values, len(values) - count)[len(values) - count :])


def _distinct(
    context: str, found: Sequence[tuple[_Floats, _Ints, _Ints]], n_best: int
) -> list[tuple[str, int, int, float]]:
    """Text, start, end, score of the best spans of all windows, best first, each text once."""
    if not found:
        return []
    scores, starts, ends = (np.concatenate([part[column] for part in found]) for column in range(3))
    chosen: dict[str, tuple[str, int, int, float]] = {}
    for index in np.argsort(-scores, kind="stable").tolist():
        start, end = readable_span(context, int(starts[index]), int(ends[index]))
        text = context[start:end]
        if text and text not in chosen:
            chosen[text] = (text, start, end, float(scores[index]))
            if len(chosen) == n_best:
                break
    return list(chosen.values())


def _decided(spans: list[tuple[str, int, int, float]], null: float, threshold: float | None) -> Decoded:
    entries = list(spans)
    if threshold is not None or not spans:
        entries = sorted([*spans, ("", 0, 0, null)], key=lambda entry: -entry[3])
    weights = np.exp(np.array([entry[3] for entry in entries]) - entries[0][3])
    shares = (weights / weights.sum()).tolist()
    candidates = tuple(
        Candidate(text, start, end, share, logit)
        for (text, start, end, logit), share in zip(entries, shares, strict=True)
    )
    span = next((candidate for candidate in candidates if candidate.text), None)
    odds = null - (span.logit if span else 0.0)
    if span is None or (threshold is not None and odds > threshold):
        best = next(candidate for candidate in candidates if not candidate.text)
    else:
        best = span
    return Decoded(best, candidates, span, odds)
