"""Which words carry a model's decision: integrated gradients over the word embeddings.

Source: Sundararajan, Taly & Yan, 2017, "Axiomatic attribution for deep networks". Attributions of all words add up to
the difference between the evidence for a label in the text and in the same text with every word masked (completeness);
how far the numerical integral misses that is measured and returned.
"""

import copy
import html
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bertune.argument_names import python_call
from bertune.encoder.int8 import is_quantized
from bertune.errors import InputError
from bertune.features import Features, Ragged
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.use import Model
from bertune.network import Network, pack
from bertune.tasks.protocol import Task
from bertune.tasks.shared.words import words_of
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

STEPS = (16, 32, 64, 128, 256)
"""Points of the numerical integral; more are taken until it is as exact as TOLERANCE asks."""
TOLERANCE = 0.01
"""Largest completeness error, as a share of the difference that is attributed."""
SMALLEST = 1e-3
"""Differences below this count as this much where the error is judged."""
MAX_TOKENS = 4096
"""Tokens of a batch of interpolated texts."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WordWeight:
    """A word, `text[start:end]` of the field (`text` or `pair`), and how much it adds to the evidence for the label."""

    field: str
    word: str
    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Explanation:
    """Why a model answers as it does.

    texts: by field, `text` and perhaps `pair`.
    label: that is explained; None for a number.
    score: the model's probability of the label, or its number.
    evidence: log-odds of the label, or the number, for the text; `masked_evidence` with every word masked.
    words: in the order of the text; their weights and `special_weight` (of parts of no word) add up to
        `evidence - masked_evidence`, but for `completeness_error`.
    steps: points of the numerical integral.
    truncated: whether a part of the text is not read, and so not explained.

    Where the masked text gets the label too (`masked_evidence` above 0), words have little to add to it: the word that
    decides then has the weight that is largest either way, and need not have the largest one.
    """

    texts: Mapping[str, str]
    label: str | None
    score: float
    evidence: float
    masked_evidence: float
    words: tuple[WordWeight, ...]
    special_weight: float
    completeness_error: float
    steps: int
    truncated: bool

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {**asdict(self), "texts": dict(self.texts), "words": [asdict(word) for word in self.words]}

    def _repr_html_(self) -> str:
        """The texts with every word coloured by its weight, for notebooks: green speaks for the label, red against."""
        head = f"<p><b>{html.escape(self.label or 'score')}</b> {self.score:.3f}</p>"
        return f"<div>{head}{coloured(self.texts, [asdict(word) for word in self.words])}</div>"


def coloured(texts: Mapping[str, str], words: Sequence[Mapping[str, Any]]) -> str:
    """Texts as HTML with every word coloured by its weight: green speaks for the label, red against.

    Args:
        texts: by field.
        words: as `Explanation.to_json` has them.
    """
    most = max((abs(word["weight"]) for word in words), default=0.0) or 1.0
    paragraphs = []
    for field, text in texts.items():
        at, parts = 0, []
        for word in (word for word in words if word["field"] == field):
            colour = "0,140,60" if word["weight"] > 0 else "200,40,40"
            style = f"background:rgba({colour},{abs(word['weight']) / most:.2f})"
            shown, before = html.escape(text[word["start"] : word["end"]]), html.escape(text[at : word["start"]])
            parts.append(f'{before}<span style="{style}" title="{word["weight"]:+.3f}">{shown}</span>')
            at = word["end"]
        paragraphs.append(f'<p style="white-space:pre-wrap">{"".join(parts)}{html.escape(text[at:])}</p>')
    return "".join(paragraphs)


@python_call
def explain(model: Model, item: Any, *, label: str | None = None) -> Explanation:
    """Words that carry a model's answer to a text or a pair of texts.

    Args:
        model: for classification (one label or several) or regression of texts.
        item: as `model.predict` takes one.
        label: to explain; None: the most probable one.

    Raises:
        InputError: another task, an unknown label, no text, a task that reads other pieces than those of its texts, a
            model loaded with int8.
    """
    if is_quantized(model.network.encoder):
        raise InputError("explain: needs gradients, which 8-bit products have not; load the model without int8")
    example, prediction = model.task.example(item), model.predict([item])[0]
    texts = {name: text for name in ("text", "pair") if (text := getattr(example, name, None))}
    if not texts:
        raise InputError("explain: the text is empty; it has no word that could carry an answer")
    scores = prediction.get("scores")
    if label is None and isinstance(scores, Mapping):
        label = str(max(scores, key=lambda name: scores[name]))
    # On zeros first, so that a task or a label that cannot be explained is refused before the network is copied.
    model.task.evidence(torch.zeros(1, max(1, len(getattr(model.task, "labels", ())))), label)
    read = _read(model, example, list(texts.values()))
    work = _Work(_in_float32(model.network), model.task, read, label, _neutral(model))
    weights, ends, error, steps = _integrated(work)
    words, special = _by_word(texts, read, weights)
    score = scores[label] if label is not None and isinstance(scores, Mapping) else prediction["score"]
    if error > TOLERANCE * max(SMALLEST, abs(ends[1] - ends[0])):
        logger.warning("explain: weights of words miss their sum by %.4f after %d steps", error, steps)
    return Explanation(texts, label, float(score), ends[1], ends[0], words, special, error, steps, read.truncated)


def _in_float32(network: Network) -> Network:
    """A copy for gradients in full precision; the original goes on serving."""
    made = copy.deepcopy(network)
    made.recorded = None
    made.encoder.set_compute_dtype(torch.float32)
    return made.eval().requires_grad_(requires_grad=False)


def _neutral(model: Model) -> int:
    """The token that stands for a word that is not known: [MASK], or [PAD] where the vocabulary lacks it."""
    special = model.tokenizer.special
    return special.pad if special.mask is None else special.mask


@dataclass(frozen=True)
class _Read:
    """What a model reads of an item: one sequence, or one a window.

    features: of the sequences.
    places: where pieces of texts stand in their tokens, laid end to end. Shape: (places,).
    pieces: which ones, of the texts' pieces end to end; in two windows a piece stands twice. Shape: (places,).
    starts: where every piece begins in its text; by text. Shape: (pieces of the text,) each.
    truncated: whether some pieces are not read.
    """

    features: Features
    places: npt.NDArray[np.int64]
    pieces: npt.NDArray[np.int64]
    starts: list[npt.NDArray[np.int64]]
    truncated: bool


class _PieceNumbers:
    """A tokenizer that gives numbers of pieces, from FIRST on, in place of their ids: so features tell what went where.

    Truncation, windows and texts without their middle then need not be known here.
    """

    FIRST = 1 << 28

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._next = tokenizer, self.FIRST

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Numbers of the pieces of every text, in order over all calls."""
        ids = self._tokenizer.encode(texts)
        begin, self._next = self._next, self._next + len(ids.values)
        return Ragged.from_lengths(np.arange(begin, self._next, dtype=ids.values.dtype), ids.lengths)


def _read(model: Model, example: Any, texts: list[str]) -> _Read:
    check_pairs(trained_on_pairs(model.record), [example])
    numbers = cast(Tokenizer, _PieceNumbers(model.tokenizer))
    features, numbered = (
        model.task.featurize([example], tokenizer, model.max_seq_length, purpose="predict")
        for tokenizer in (model.tokenizer, numbers)
    )
    ids, starts, _ = model.tokenizer.encode_with_offsets(texts)
    values, found = features.input_ids.values, numbered.input_ids.values
    places = np.flatnonzero(found >= _PieceNumbers.FIRST)
    pieces = found[places].astype(np.int64) - _PieceNumbers.FIRST
    known = len(found) == len(values) and (not len(pieces) or pieces.max() < len(ids.values))
    if not known or not np.array_equal(values[places], ids.values[pieces]):
        raise InputError(f"explain: {model.task.name} reads other pieces than those of the text's words")
    truncated = bool(np.any(features.cut)) or len(np.unique(pieces)) < len(ids.values)
    return _Read(features, places, pieces, [starts[i].astype(np.int64) for i in range(len(texts))], truncated)


@dataclass(frozen=True)
class _Work:
    """What is integrated. neutral: the token that a masked piece becomes."""

    network: Network
    task: Task[Any]
    read: _Read
    label: str | None
    neutral: int


def _integrated(work: _Work) -> tuple[Floats, tuple[float, float], float, int]:
    """Weights at the places, evidence of the masked and of the whole text, the completeness error, points taken."""
    ends = tuple(_run(work, np.array([0.0, 1.0]))[0])
    weights, error, steps = np.zeros(len(work.read.places)), float("inf"), STEPS[0]
    for steps in STEPS:
        nodes, shares = np.polynomial.legendre.leggauss(steps)
        _, products = _run(work, (nodes + 1) / 2)
        weights = (shares / 2) @ products
        error = abs(float(weights.sum()) - (ends[1] - ends[0]))
        if error <= TOLERANCE * max(SMALLEST, abs(ends[1] - ends[0])):
            break
    return weights, (ends[0], ends[1]), error, steps


def _run(work: _Work, alphas: Floats) -> tuple[list[float], Floats]:
    """Evidence, and gradient times difference at every place, for texts between masked (0) and whole (1).

    Shape: alphas (points,) → points numbers, (points, places).
    """
    evidence: list[float] = []
    products: list[Floats] = []
    read, network = work.read, work.network
    length, windows = len(read.features.input_ids.values), len(read.features)
    at_once = max(1, MAX_TOKENS // length)
    for begin in range(0, len(alphas), at_once):
        some = alphas[begin : begin + at_once]
        copies = _copies(read.features, len(some))
        batch = pack(copies, np.arange(len(copies))).to(network.device)
        embedder = _Interpolated(network.encoder.embeddings.word, read.places, length, some, work.neutral)
        with torch.enable_grad(), embedder:
            logits = network(batch).float().unflatten(0, (len(some), windows)).mean(1)  # as `by_example` has windows
            value = work.task.evidence(logits, work.label)
            assert embedder.vectors is not None
            gradient = torch.autograd.grad(value.sum(), embedder.vectors)[0]
        evidence += value.detach().cpu().double().tolist()
        products.append((gradient * embedder.difference).sum(-1).detach().cpu().double().numpy())
    return evidence, np.concatenate(products)


def _copies(features: Features, count: int) -> Features:
    rows = np.tile(np.arange(len(features)), count)
    ids, segments = features.input_ids.take(rows), features.segment_ids.take(rows)
    return Features(ids, segments, np.repeat(np.arange(count, dtype=np.int32), len(features)))


class _Interpolated:
    """While it is open, word vectors at some places lie between those of a neutral token and the text's own.

    vectors: what was put there. Shape: (points, pieces, width).  difference: text's minus neutral. (pieces, width).
    """

    def __init__(
        self, word: nn.Module, places: npt.NDArray[np.int64], length: int, alphas: Floats, neutral: int
    ) -> None:
        self._word, self._places, self._length, self._alphas = word, torch.from_numpy(places), length, alphas
        self._neutral, self._asking = neutral, False
        self.vectors: Tensor | None = None
        self.difference = torch.zeros(0)

    def __enter__(self) -> "_Interpolated":
        self._handle = self._word.register_forward_hook(self._replace)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _replace(self, word: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self._asking:
            return output
        self._asking = True  # the same table is asked for the neutral token's vector
        neutral = word(torch.full_like(inputs[0][:1], self._neutral)).detach()
        self._asking = False
        points, output = len(self._alphas), output.detach()
        places = self._places.to(output.device)
        alphas = torch.from_numpy(self._alphas).to(output)
        self.difference = output[places] - neutral
        self.vectors = (neutral + alphas[:, None, None] * self.difference).requires_grad_()
        begins = torch.arange(points, device=output.device)[:, None] * self._length
        return output.index_put(((begins + places).flatten(),), self.vectors.flatten(0, 1))


def _by_word(texts: Mapping[str, str], read: _Read, weights: Floats) -> tuple[tuple[WordWeight, ...], float]:
    """The places' weights added up by word, and those of pieces in no word. Words that are not read are left out."""
    count = sum(map(len, read.starts))
    by_piece = np.bincount(read.pieces, weights=weights, minlength=count)
    is_read = np.bincount(read.pieces, minlength=count) > 0
    found: list[WordWeight] = []
    at, special = 0, 0.0
    for (field, text), begins in zip(texts.items(), read.starts, strict=True):
        spans, own = words_of(text), slice(at, at + len(begins))
        owner = np.searchsorted([start for start, _ in spans], begins, side="right") - 1
        last = np.array([end for _, end in spans] or [0])
        inside = (owner >= 0) & (begins < last[owner])
        sums = np.bincount(owner[inside], weights=by_piece[own][inside], minlength=len(spans))
        seen = np.bincount(owner[inside & is_read[own]], minlength=len(spans)) > 0
        special += float(by_piece[own][~inside].sum())
        found += [
            WordWeight(field, text[start:end], start, end, round(float(sums[i]), 6))
            for i, (start, end) in enumerate(spans)
            if seen[i]
        ]
        at += len(begins)
    return tuple(found), round(special, 6)
