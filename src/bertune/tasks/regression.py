"""Regression: a number for a text or a pair of texts (STS-B's similarity of sentences, ratings with fractions)."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.data.features import Column, Features
from bertune.data.formats.registry import open_any
from bertune.encoder.config import EncoderConfig
from bertune.encoder.layout import Layout
from bertune.errors import InputError, Problems
from bertune.tasks.defaults import complete
from bertune.tasks.heads import label_settings, linear_in_folder, pooled_head
from bertune.tasks.options import RegressionOptions, TextColumns
from bertune.tasks.task import Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.text_classification import examples_of, find_columns
from bertune.tasks.texts import by_example, shown, text_features, text_item
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

DEFAULTS = Defaults()
STSB = {"text_column": "sentence1", "pair_column": "sentence2", "label_column": "score"}
"""Columns of GLUE's STS-B files, which have a header."""


@dataclass(frozen=True, slots=True)
class NumberExample:
    """A text or pair, and its number where it is known. place: line of the file."""

    text: str
    pair: str | None = None
    value: float | None = None
    place: int = 0


@complete
@dataclass(frozen=True)
class Regression:
    """A number, learnt by squared error. Predictions: `{"score": number}`."""

    Options: ClassVar[type[Any]] = RegressionOptions

    name: str = "regression"
    options: RegressionOptions = RegressionOptions()  # noqa: RUF009 (frozen)
    mean: float = 0.0
    """Mean of the training data's numbers."""
    deviation: float = 1.0
    """Their standard deviation."""
    defaults: Defaults = DEFAULTS

    @property
    def metric(self) -> str:
        """The smallest error; GLUE's STS-B is judged by correlation, which does not see the scale."""
        return "pearson" if self.name == "stsb" else "loss"

    def read(self, path: Path, *, labelled: bool) -> Iterator[NumberExample]:
        """Texts and numbers of a table; all cells that hold none are told together."""
        given = {name: getattr(self.options, name) for name in STSB}
        if self.name == "stsb":
            given = {name: column or STSB[name] for name, column in given.items()}
        file = open_any(path, self.options, "labels", labelled=labelled)
        columns = find_columns(file, TextColumns(**given), labelled=labelled)
        problems = Problems()
        drop = self.options.drop_unlabelled
        for example in examples_of(file, columns, labelled=labelled, drop_unlabelled=drop):
            value = None
            if labelled:
                value = _number(example.label)
                if value is None:
                    problems.add(f"{file.where(example.place, columns[2])}: {example.label!r} is no number")
            if not problems:
                yield NumberExample(example.text, example.pair, value, example.place)
        problems.raise_if_any()

    def example(self, item: Any) -> NumberExample:
        """From a string, a pair of strings, or a mapping with `text` and perhaps `pair`."""
        return NumberExample(*text_item(item))

    def learn(self, examples: Sequence[NumberExample], *, path: Path, settings: Mapping[str, Any]) -> "Regression":  # noqa: ARG002
        """With the mean and the standard deviation of the training data."""
        values = np.array([example.value for example in examples], np.float64)
        mean, deviation = float(values.mean()), float(values.std())
        if deviation == 0:
            raise InputError(f"{path}: every number is {mean:g}; there is nothing to learn")
        if not self.options.standardize and (not 0.05 <= deviation <= 20 or abs(mean) > 100):
            logger.warning(
                "%s: the numbers have mean %.4g and standard deviation %.4g; --standardize learns such better",
                path, mean, deviation,
            )  # fmt: skip
        return dataclasses.replace(self, mean=mean, deviation=deviation)

    @property
    def _unit(self) -> tuple[float, float]:
        """What a logit of 0 stands for, and a step of 1."""
        return (self.mean, self.deviation) if self.options.standardize else (0.0, 1.0)

    @property
    def one_sequence_each(self) -> bool:
        """Unless long texts are read in windows."""
        return self.options.long_text != "window"

    def featurize(
        self, examples: Sequence[NumberExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """The text or pair, and the number in the head's units."""
        targets = {} if purpose == "predict" else self.targets(examples)
        return text_features(examples, tokenizer, max_seq_length, targets, self.options.long_text)

    def targets(self, examples: Sequence[NumberExample]) -> dict[str, Column]:
        """`value`: every example's number in the head's units."""
        origin, step = self._unit
        values = np.array([example.value for example in examples], np.float64)
        return {"value": ((values - origin) / step).astype(np.float32)}

    def new_head(self, config: EncoderConfig) -> nn.Module:
        """A linear layer on the pooled output that begins at the mean."""
        head = pooled_head(config, 1, self.options.layers)
        origin, step = self._unit
        nn.init.constant_(head.bias, (self.mean - origin) / step)
        return head

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], layout: Layout) -> tuple[Tensor, Tensor]:  # noqa: ARG002
        """Squared error, one term a sequence."""
        value = targets["value"]
        return F.mse_loss(logits[:, 0], value, reduction="sum"), torch.tensor(value.numel())

    def _values(self, logits: Logits, features: Features, examples: int) -> npt.NDArray[np.float64]:
        origin, step = self._unit
        return by_example(logits, features, examples)[:, 0].astype(np.float64) * step + origin

    def decode(self, logits: Logits, features: Features, examples: Sequence[NumberExample]) -> list[Prediction]:
        """`{"score": number}` for every text."""
        if not examples:
            return []
        return [{"score": round(float(value), 6)} for value in self._values(logits, features, len(examples))]

    def summary(self, example: NumberExample, prediction: Prediction) -> tuple[str, str, str]:
        """Text, number."""
        return shown(example), f"{prediction['score']:.3f}", ""

    def metrics(self, logits: Logits, features: Features, examples: Sequence[NumberExample]) -> dict[str, float]:
        """Pearson's and Spearman's correlation, root mean squared and mean absolute error."""
        found = self._values(logits, features, len(examples))
        truth = np.array([example.value for example in examples], np.float64)
        return {
            "pearson": pearson(truth, found),
            "spearman": spearman(truth, found),
            "rmse": float(np.sqrt(np.square(truth - found).mean())),
            "mae": float(np.abs(truth - found).mean()),
        }

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint was fine-tuned for regression."""
        return settings.get("problem_type") == "regression"

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForSequenceClassification` with one output; with several layers `AutoModel`, a head beside it."""
        settings = label_settings(["score"], "regression")
        return linear_in_folder("ForSequenceClassification", self.options.layers, settings)


def _number(label: str | None) -> float | None:
    try:
        value = float(label or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def pearson(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Pearson's correlation; 0 where one side does not vary."""
    a, b = one - one.mean(), other - other.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / norm if norm else 0.0


def spearman(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    return pearson(_ranks(one), _ranks(other))


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = ((2 * last - counts + 1) / 2)[inverse]
    return ranks
