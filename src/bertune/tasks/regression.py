"""Regression: a number for a text or a pair of texts (STS-B's similarity of sentences, ratings with fractions)."""

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bertune.data.formats.registry import open_any
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems
from bertune.features import Column, Features
from bertune.tasks.base import BaseTask
from bertune.tasks.hyperparameters import USUAL
from bertune.tasks.options import RegressionOptions, TextColumns
from bertune.tasks.protocol import Baseline, Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.baselines import ridge_regression
from bertune.tasks.shared.folder_pooling import with_pooling
from bertune.tasks.shared.huggingface import label_settings, linear_in_folder
from bertune.tasks.shared.intervals import Curve, error_curve, half_width, too_few
from bertune.tasks.shared.metrics import number_rows
from bertune.tasks.shared.texts import by_example, shown, text_features, text_item
from bertune.tasks.text_classification import examples_of, find_columns
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

logger = logging.getLogger(__name__)

DEFAULTS = USUAL
SHARES = (0.5, 0.8, 0.9, 0.95, 0.99)
"""Of true numbers, for which a report shows intervals."""
STSB = {"text_column": "sentence1", "pair_column": "sentence2", "label_column": "score"}
"""Columns of GLUE's STS-B files, which have a header."""


@dataclass(frozen=True, slots=True)
class NumberExample:
    """A text or pair, and its number where it is known. place: line of the file."""

    text: str
    pair: str | None = None
    value: float | None = None
    place: int = 0


@dataclass(frozen=True)
class Regression(BaseTask[NumberExample]):
    """A number, learnt by squared error. Predictions: `{"score": number}`, with `--interval` also `low` and `high`."""

    Options: ClassVar[type[Any]] = RegressionOptions
    logit_kind: ClassVar[str] = "number"
    metric_names: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "rmse", "mae")

    name: str = "regression"
    options: RegressionOptions = RegressionOptions()  # noqa: RUF009 (frozen)
    mean: float = 0.0
    """Mean of the training data's numbers."""
    deviation: float = 1.0
    """Their standard deviation."""
    errors: Curve = ()
    """How far validation rows' numbers lie from the predicted ones; none where there were no such rows."""
    defaults: Defaults = DEFAULTS

    @property
    def metric(self) -> str:
        """The smallest error; GLUE's STS-B is judged by correlation, which does not see the scale."""
        return "pearson" if self.name == "stsb" else "loss"

    def read(self, path: Path, *, labelled: bool) -> Iterator[NumberExample]:
        """Texts and numbers of a table; all cells that hold none are reported together."""
        given = {name: getattr(self.options, name) for name in STSB}
        if self.name == "stsb":
            given = {name: column or STSB[name] for name, column in given.items()}
        file = open_any(path, self.options, "labels", labelled=labelled)
        columns = find_columns(file, TextColumns(**given), labelled=labelled)
        problems = Problems()
        drop = labelled and self.options.drop_unlabelled
        for example in examples_of(file, columns, labelled=labelled, drop_unlabelled=drop):
            value = None
            if labelled:
                value = _number(example.label)
                if value is None:
                    problems.add(f"{file.where(example.place, columns[2])}: {example.label!r} is not a number")
            if not problems:
                yield NumberExample(example.text, example.pair, value, example.place)
        problems.raise_if_any()

    def example(self, item: Any) -> NumberExample:
        """From a string, a pair of strings, or a mapping with `text` and perhaps `pair`."""
        return NumberExample(*text_item(item))

    def fit(self, examples: Sequence[NumberExample], *, path: Path, settings: Mapping[str, Any]) -> Self:
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
        return dataclasses.replace(
            self, mean=mean, deviation=deviation, options=with_pooling(self.options, examples, settings)
        )

    @property
    def unit(self) -> tuple[float, float]:
        """What a logit of 0 stands for, and a step of 1."""
        return (self.mean, self.deviation) if self.options.standardize else (0.0, 1.0)

    def featurize(
        self, examples: Sequence[NumberExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """The text or pair, and the number in the head's units."""
        targets = {} if purpose == "predict" else self.targets(examples)
        return text_features(examples, tokenizer, max_seq_length, targets, self.options.long_text)

    def targets(self, examples: Sequence[NumberExample]) -> dict[str, Column]:
        """`value`: every example's number in the head's units."""
        origin, step = self.unit
        values = np.array([example.value for example in examples], np.float64)
        return {"value": ((values - origin) / step).astype(np.float32)}

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A linear layer on the pooled output that begins at the mean."""
        from torch import nn

        from bertune.tasks.shared.heads import pooled_head

        head = pooled_head(config, 1, self.options.layers, self.options.pooling)
        origin, step = self.unit
        nn.init.constant_(head.bias, (self.mean - origin) / step)
        return head

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",  # noqa: ARG002
    ) -> tuple["Tensor", "Tensor"]:
        """Squared error, one term a sequence. Shape: logits (sequences, 1), targets value (sequences,)."""
        from bertune.tasks.shared.heads import squared_error

        return squared_error(logits[:, 0], targets["value"])

    def _values(self, logits: Logits, features: Features, examples: int) -> npt.NDArray[np.float64]:
        origin, step = self.unit
        return by_example(logits, features, examples)[:, 0].astype(np.float64) * step + origin

    def decode(self, logits: Logits, features: Features, examples: Sequence[NumberExample]) -> list[Prediction]:
        """`{"score": number}` for every text; with `interval` also `low` and `high`.

        These are None where validation rows were too few for such an interval, which then has no ends.
        """
        if not examples:
            return []
        values = self._values(logits, features, len(examples)).tolist()
        share = self.options.interval
        if share is None:
            return [{"score": round(value, 6)} for value in values]
        if too_few(self.errors, share):
            return [{"score": round(value, 6), "low": None, "high": None} for value in values]
        half = half_width(self.errors, share)
        return [
            {"score": round(value, 6), "low": round(value - half, 6), "high": round(value + half, 6)}
            for value in values
        ]

    def predicted_answer(self, prediction: Prediction) -> float:
        """The number."""
        return float(prediction["score"])

    def summary(self, example: NumberExample, prediction: Prediction) -> tuple[str, str, str]:
        """Text, number, and the interval where there is one."""
        around = f"{prediction['low']:.3f} to {prediction['high']:.3f}" if prediction.get("low") is not None else ""
        return shown(example), f"{prediction['score']:.3f}", around

    def metrics(self, logits: Logits, features: Features, examples: Sequence[NumberExample]) -> dict[str, float]:
        """Pearson's and Spearman's correlation, root mean squared and mean absolute error."""
        truth = np.array([example.value for example in examples], np.float64)
        found = number_rows(truth, self._values(logits, features, len(examples))).metrics()
        return {name: found[name] for name in ("pearson", "spearman", "rmse", "mae")}

    def row_metrics(self, examples: Sequence[NumberExample], predictions: Sequence[Prediction]) -> RowMetrics:
        """The same metrics, row by row."""
        truth = np.array([example.value for example in examples], np.float64)
        return number_rows(truth, np.array([prediction["score"] for prediction in predictions], np.float64))

    def tuned(self, logits: Logits, features: Features, examples: Sequence[NumberExample]) -> Self:
        """With these texts' errors, from which intervals follow."""
        truth = np.array([example.value for example in examples], np.float64)
        return dataclasses.replace(self, errors=error_curve(truth, self._values(logits, features, len(examples))))

    def diagnostics(self, logits: Logits, features: Features, examples: Sequence[NumberExample]) -> Mapping[str, Any]:
        """Intervals of some shares by the errors on the validation rows, and the share that they hold of these rows."""
        truth = np.array([example.value for example in examples], np.float64)
        missed = np.abs(truth - self._values(logits, features, len(examples)))
        return {
            "intervals": [
                {"share": share, "half_width": half, "held": float((missed <= half).mean())}
                for share in SHARES
                if not too_few(self.errors, share)
                for half in [half_width(self.errors, share)]
            ]
        }

    def with_options(self, options: Any) -> Self:
        """The same task under other options. Raises InputError for one that decides its form, an interval."""
        changed = super().with_options(options)
        if changed.options.interval not in (None, self.options.interval):
            half_width(self.errors, changed.options.interval)
        return changed

    def baselines(self) -> Mapping[str, Baseline]:
        """The mean of the training data, and ridge regression on words."""

        def mean(train: Sequence[NumberExample], rows: Sequence[NumberExample]) -> list[Prediction]:  # noqa: ARG001
            return [{"score": self.mean}] * len(rows)

        def ridge(train: Sequence[NumberExample], rows: Sequence[NumberExample]) -> list[Prediction]:
            values = [float(example.value or 0) for example in train]
            return [{"score": value} for value in ridge_regression(train, values, rows)]

        return {"mean": mean, "tfidf_ridge": ridge}

    def evidence(self, logits: "Tensor", label: str | None) -> "Tensor":
        """The number itself. Shape: (sequences, 1) → (sequences,)."""
        if label is not None:
            raise InputError(f"explain: the label {label!r} of a model that answers with a number; leave it out")
        origin, step = self.unit
        return logits[:, 0] * step + origin

    def feature_key(self) -> Mapping[str, Any]:
        """All but the head and the intervals."""
        return self._described_without("layers", "pooling", "errors", "interval")

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint was fine-tuned for regression."""
        return settings.get("problem_type") == "regression"

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForSequenceClassification` with one output; with several layers `AutoModel`, a head beside it."""
        settings = label_settings(["score"], "regression")
        return linear_in_folder(
            "ForSequenceClassification", self.options.layers, settings, pooling=self.options.pooling
        )


def _number(label: str | None) -> float | None:
    try:
        value = float(label or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
