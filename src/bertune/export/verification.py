"""What an exported graph is compared with before it leaves: PyTorch's logits, metrics and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bertune.errors import InputError
from bertune.export.running import for_task, pytorch_rows
from bertune.features import Features, Ragged
from bertune.inference.onnx_model import FloatArray, OnnxModel
from bertune.model.use import Model
from bertune.tasks.masking.head import PretrainingHead
from bertune.tasks.protocol import lower_is_better

CANARIES = 12
"""Rows whose answers go with the graph, for whoever loads it to repeat. They are made up, none is anybody's data."""
_CANARY_TOKENS = 48
_CANARY_VALUES = 1 << 15
"""Numbers of a canary's answer above which it is made shorter: over a vocabulary of 30,000 words, one token."""

_SHORT = 128
"""Tokens up to which sequences of every length cost little."""
_TOGETHER = 1024
"""Tokens of a batch, padding included: made-up sequences are of very different lengths."""


@dataclass(frozen=True)
class Labelled:
    """Labelled data that metrics are computed on. name: what they are called in the record."""

    name: str
    sha256: str
    examples: Sequence[Any]
    features: Features


@dataclass(frozen=True)
class Reference:
    """What PyTorch gives for the rows that graphs are compared on.

    made_up: sequences of random tokens of every length, and PyTorch's rows.
    labelled: real data, where there are any, PyTorch's rows and metrics.
    """

    model: Model
    made_up: Features
    made_up_rows: list[FloatArray]
    labelled: Labelled | None = None
    labelled_rows: list[FloatArray] = field(default_factory=list)
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, labelled: Labelled | None) -> "Reference":
        """Run PyTorch."""
        made_up = made_up_features(model)
        rows = pytorch_rows(model.network, made_up)
        if labelled is None:
            return cls(model, made_up, rows)
        found = pytorch_rows(model.network, labelled.features)
        return cls(model, made_up, rows, labelled, found, metrics_of(model, labelled, found))

    @property
    def metric(self) -> str:
        """The metric that decides how a graph is judged."""
        return judged_metric(self.model.task.metric, self.metrics)


@dataclass(frozen=True)
class Compared:
    """How a graph compares with PyTorch.

    difference: largest absolute difference of logits.
    scale: largest absolute logit, at least 1: rounding of float32 grows with it.
    rows: compared sequences.
    metrics: of the labelled data.
    agreement: share of labelled rows with the same answer; None without labelled data, or where answers are vectors.
    loss: how much worse the task's metric is than PyTorch's; None without labelled data.
    canaries: the graph's rows for `canary_features`.
    """

    difference: float
    scale: float
    rows: int
    metrics: Mapping[str, float] = field(default_factory=dict)
    agreement: float | None = None
    loss: float | None = None
    canaries: list[FloatArray] = field(default_factory=list)


def compare(onnx: OnnxModel, reference: Reference) -> Compared:
    """Run a graph on all rows of the reference, and on those that are recorded with it."""
    ours = onnx.rows(reference.made_up, max_tokens=_TOGETHER)
    canaries = onnx.rows(canary_features(reference.model))
    pairs = list(zip(ours, reference.made_up_rows, strict=True))
    labelled, model = reference.labelled, reference.model
    if labelled is None:
        return Compared(*_largest(pairs), len(pairs), canaries=canaries)
    rows = onnx.rows(labelled.features)
    pairs += zip(rows, reference.labelled_rows, strict=True)
    metrics = metrics_of(model, labelled, rows)
    agreement = agreement_of(model, labelled, rows, reference.labelled_rows)
    name = reference.metric
    worse = reference.metrics[name] - metrics[name]
    loss = -worse if lower_is_better(name) else worse
    return Compared(*_largest(pairs), len(pairs), metrics, agreement, loss, canaries)


def judged_metric(metric: str, found: Mapping[str, float]) -> str:
    """The metric by which graphs are compared: the task's own, unless that is the loss, which a graph does not give."""
    return metric if metric in found else "pearson" if "pearson" in found else next(iter(found), metric)


def _largest(pairs: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[float, float]:
    difference = max(float(np.abs(one - two).max()) for one, two in pairs)
    return difference, max(1.0, *(float(np.abs(two).max()) for _, two in pairs))


def metrics_of(model: Model, labelled: Labelled, rows: Sequence[FloatArray]) -> dict[str, float]:
    """The task's metrics on a graph's rows, in its terms."""
    logits = for_task(model.network.head, rows, labelled.features)
    return dict(model.task.metrics(logits, labelled.features, labelled.examples))


def agreement_of(
    model: Model, labelled: Labelled, one: Sequence[FloatArray], other: Sequence[FloatArray]
) -> float | None:
    """Share of equal answers of two graphs, of masked words of equal first choices; None where answers are vectors."""
    if isinstance(model.network.head, PretrainingHead):
        return float(np.mean([(a.argmax(-1) == b.argmax(-1)).mean() for a, b in zip(one, other, strict=True)]))
    task, features, examples = model.task, labelled.features, labelled.examples
    answers = [[task.predicted_answer(made) for made in task.decode(rows, features, examples)] for rows in (one, other)]
    pairs = [(a, b) for a, b in zip(*answers, strict=True) if a is not None]
    return float(np.mean([a == b for a, b in pairs])) if pairs else None


def made_up_features(model: Model, rows: int = 24, seed: int = 0) -> Features:
    """Sequences of random tokens, of lengths from short to the longest that the model takes, some as pairs.

    Lengths grow by a constant factor; where the longest is above 128, up to its quarter, and then come its half and all
    of it. 24 of them up to 512 are 1,500 tokens, which BERT-base computes in seconds.
    """
    rng, special = np.random.default_rng(seed), model.tokenizer.special
    longest = model.max_seq_length
    long = [longest / 2, longest] if longest > _SHORT else []
    short = np.geomspace(min(3, longest), longest / 4 if long else longest, rows - len(long))
    lengths = np.unique(np.array([*short, *long]).round().astype(int))
    ids = [rng.integers(0, model.tokenizer.vocab_size, length) for length in lengths]
    segments = []
    for sequence in ids:
        sequence[0], sequence[-1] = special.cls, special.sep
        pair = rng.integers(1, len(sequence) + 1)
        segments.append((np.arange(len(sequence)) >= pair).astype(np.int32))
    owner = np.arange(len(ids), dtype=np.int32)
    return Features(Ragged.from_lists(ids), Ragged.from_lists(segments), owner)


def canary_features(model: Model) -> Features:
    """Made-up sequences of 3 to 48 tokens, shorter where an answer is over the vocabulary, to take little room."""
    features = made_up_features(model, rows=48, seed=1)
    lengths = features.input_ids.lengths
    tokens = _CANARY_TOKENS
    if isinstance(model.network.head, PretrainingHead):
        tokens = min(tokens, _CANARY_VALUES // model.network.encoder.config.vocab_size)
    chosen = np.flatnonzero(lengths <= max(tokens, int(lengths.min())))
    chosen = chosen[np.unique(np.linspace(0, len(chosen) - 1, CANARIES).astype(int))]
    return Features(
        features.input_ids.take(chosen), features.segment_ids.take(chosen), np.arange(len(chosen), dtype=np.int32)
    )


def refuse_differing(compared: Compared, tolerance: float) -> None:
    """Refuse a float32 graph that is not PyTorch's network.

    Raises:
        InputError: with the figures.
    """
    allowed = tolerance * compared.scale
    if not compared.difference <= allowed:  # NaN too
        raise InputError(
            f"export: logits in float32 differ from PyTorch's by up to {compared.difference:.2e}; "
            f"--tolerance {tolerance:g} allows {allowed:.2e} (logits reach {compared.scale:.1f}); nothing was written"
        )


def loses_too_much(compared: Compared, max_loss: float) -> bool:
    """Whether a graph's metric is worse than allowed."""
    return compared.loss is None or not compared.loss <= max_loss
