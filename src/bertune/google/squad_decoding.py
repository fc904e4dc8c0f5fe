"""Answers out of start and end logits exactly as google-research/bert's run_squad.py finds and writes them."""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bertune.google.squad_exact import GoogleExample, GoogleFeatures

if TYPE_CHECKING:
    from bertune.tokenization.tokenizer import Tokenizer

Logits = npt.NDArray[np.floating]
Words = Callable[[str], list[str]]


@dataclass(frozen=True, slots=True)
class NBestEntry:
    """One candidate; the fields are those of nbest_predictions.json, in its order."""

    text: str
    probability: float
    start_logit: float
    end_logit: float


@dataclass(frozen=True, slots=True)
class GooglePredictions:
    """By question id, in the questions' order.

    null_odds: null score minus the best non-empty candidate's score; empty without version_2.
    """

    predictions: dict[str, str]
    nbest: dict[str, list[NBestEntry]]
    null_odds: dict[str, float]


@dataclass(frozen=True, slots=True)
class GoogleDecoding:
    """How to decode; the names and defaults are run_squad.py's flags. max_answer_length is in tokens."""

    n_best_size: int = 20
    max_answer_length: int = 30
    version_2_with_negative: bool = False
    null_score_diff_threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class _Span:
    """A candidate: window, first and last token in it (0, 0 is "no answer"), their logits."""

    window: int
    start: int
    end: int
    start_logit: float
    end_logit: float


def google_decode(
    examples: Sequence[GoogleExample],
    features: GoogleFeatures,
    start_logits: Sequence[Logits] | Logits,
    end_logits: Sequence[Logits] | Logits,
    tokenizer: "Tokenizer",
    options: GoogleDecoding | None = None,
) -> GooglePredictions:
    """The three files' contents.

    Where version_2 finds no non-empty candidate the original crashes; here the answer is "" and the odds are the null
    score against 0.

    Args:
        examples: from `google_examples`.
        features: from `google_features`.
        start_logits: one row a window, in the order of `features`, with at least the window's tokens. The original's
            rows are padded to max_seq_length, and padding takes part in the choice of the n best positions.
        end_logits: likewise.
        tokenizer: the one that made the features.
        options: as the flags of run_squad.py.
    """
    options = options or GoogleDecoding()
    result = GooglePredictions({}, {}, {})
    bounds = np.searchsorted(features.example_index, np.arange(len(examples) + 1))
    for index, example in enumerate(examples):
        windows = range(int(bounds[index]), int(bounds[index + 1]))
        spans, null = _ranked_spans(features, windows, start_logits, end_logits, options)
        entries = _distinct(_texts(spans, example, features, tokenizer), null, options)
        result.nbest[example.id] = entries
        if not options.version_2_with_negative:
            result.predictions[example.id] = entries[0].text
            continue
        best = next((entry for entry in entries if entry.text), None)
        best_score = best.start_logit + best.end_logit if best else 0.0
        odds = null.start_logit + null.end_logit - best_score
        keep = best is not None and odds <= options.null_score_diff_threshold
        result.predictions[example.id] = best.text if best is not None and keep else ""
        result.null_odds[example.id] = odds
    return result


def write_google_predictions(
    result: GooglePredictions, predictions: Path, nbest: Path, null_odds: Path | None = None
) -> None:
    """Write predictions.json, nbest_predictions.json and, for version_2, null_odds.json as the original does.

    Four spaces of indent, ASCII only, the questions' order, a line end at the end.
    """
    _write_json(predictions, result.predictions)
    _write_json(nbest, {name: [asdict(entry) for entry in entries] for name, entries in result.nbest.items()})
    if null_odds is not None:
        _write_json(null_odds, result.null_odds)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="ascii", newline="\n")


def final_text(predicted: str, original: str, words: Words) -> str:
    """The part of `original` that a predicted text, rejoined from word pieces, stands for.

    Both are compared without spaces. Where `predicted` is not in the basic tokens of `original`, or these have another
    number of characters (a lost accent is one character less), all of `original` is the answer.

    Args:
        predicted: pieces joined, in the tokenizer's casing.
        original: the context's words around it.
        words: Google's basic tokenizer, `Tokenizer.basic`.
    """
    tokenized = " ".join(words(original))
    start = tokenized.find(predicted)
    if start < 0 or not predicted:
        return original
    end = start + len(predicted) - 1
    places = [place for place, char in enumerate(original) if char != " "]
    if len(places) != len(tokenized) - tokenized.count(" ") or tokenized[start] == " " or tokenized[end] == " ":
        return original
    before = start - tokenized.count(" ", 0, start)
    upto = end - tokenized.count(" ", 0, end)
    return original[places[before] : places[upto] + 1]


def _ranked_spans(
    features: GoogleFeatures,
    windows: range,
    start_logits: Sequence[Logits] | Logits,
    end_logits: Sequence[Logits] | Logits,
    options: GoogleDecoding,
) -> tuple[list[_Span], _Span]:
    """Candidates of one question, best first, and the null candidate, which is among them with version_2."""
    owners, firsts, lasts, tops, bottoms = [], [], [], [], []
    null, null_score = _Span(0, 0, 0, 0.0, 0.0), 1_000_000.0  # the original's starting value: a higher score is no null
    for window in windows:
        starts = np.asarray(start_logits[window], np.float64)
        ends = np.asarray(end_logits[window], np.float64)
        if starts[0] + ends[0] < null_score:
            null_score = float(starts[0] + ends[0])
            null = _Span(window, 0, 0, float(starts[0]), float(ends[0]))
        first, last = _pairs(
            _best_positions(starts, options.n_best_size),
            _best_positions(ends, options.n_best_size),
            (int(features.context_start[window]), features.max_context[window]),
            options.max_answer_length,
        )
        owners.append(np.full(len(first), window))
        firsts.append(first)
        lasts.append(last)
        tops.append(starts[first])
        bottoms.append(ends[last])
    spans: list[_Span] = []
    if owners:
        columns = [np.concatenate(column) for column in (owners, firsts, lasts, tops, bottoms)]
        spans = [_Span(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
    if options.version_2_with_negative:
        spans.append(null)
    return sorted(spans, key=lambda span: span.start_logit + span.end_logit, reverse=True), null


def _best_positions(logits: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Positions of the highest logits, best first; of equal ones the first."""
    return np.argsort(-logits, kind="stable")[:count]


def _pairs(
    starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], context: tuple[int, npt.NDArray[np.int32]], longest: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Legal pairs, starts in their order, for each the ends in theirs.

    Both are context tokens, the start is at its max context (the end need not be), and the answer is not too long.
    """
    begin, best = context
    inside = (starts >= begin) & (starts < begin + len(best))
    starts = starts[inside]
    starts = starts[best[starts - begin] == 1]
    ends = ends[(ends >= begin) & (ends < begin + len(best))]
    length = ends[None, :] - starts[:, None] + 1
    rows, columns = np.nonzero((length >= 1) & (length <= longest))
    return starts[rows], ends[columns]


def _texts(
    spans: Sequence[_Span], example: GoogleExample, features: GoogleFeatures, tokenizer: "Tokenizer"
) -> Iterator[tuple[str, _Span]]:
    """The text of every candidate, made when it is asked for."""
    known: dict[str, list[str]] = {}

    def words(text: str) -> list[str]:
        if text not in known:
            known[text] = tokenizer.basic(text)
        return known[text]

    for span in spans:
        if span.start == 0:
            yield "", span
            continue
        pieces = tokenizer.tokens(features.input_ids[span.window][span.start : span.end + 1].tolist())
        predicted = " ".join(" ".join(pieces).replace(" ##", "").replace("##", "").split())
        word_of, begin = features.words[span.window], int(features.context_start[span.window])
        original = " ".join(example.words[word_of[span.start - begin] : word_of[span.end - begin] + 1])
        yield final_text(predicted, original, words), span


def _distinct(candidates: Iterator[tuple[str, _Span]], null: _Span, options: GoogleDecoding) -> list[NBestEntry]:
    """The n best different texts; with version_2 also "", even beyond n; at least one entry."""
    chosen: dict[str, _Span] = {}
    while len(chosen) < options.n_best_size and (candidate := next(candidates, None)) is not None:
        chosen.setdefault(*candidate)
    if options.version_2_with_negative:
        chosen.setdefault("", null)
    if not chosen:
        chosen["empty"] = _Span(0, 0, 0, 0.0, 0.0)  # an odd answer, but the original's
    scores = [span.start_logit + span.end_logit for span in chosen.values()]
    weights = [math.exp(score - max(scores)) for score in scores]
    total = sum(weights)
    return [
        NBestEntry(text, weight / total, span.start_logit, span.end_logit)
        for (text, span), weight in zip(chosen.items(), weights, strict=True)
    ]
