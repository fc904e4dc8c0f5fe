"""Text classification: one label for a text or a pair of texts."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bertune.data.columns import named
from bertune.data.formats.registry import open_any
from bertune.data.tables import Rows
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.features import Column, Features
from bertune.tasks.base import BaseTask
from bertune.tasks.calibration import LEAST_ROWS, CalibrationRows
from bertune.tasks.hyperparameters import USUAL

# Imported from here by task files that models are bound to by their SHA-256, so that their text cannot follow a move.
from bertune.tasks.options import TextColumns as TextColumns  # noqa: PLC0414
from bertune.tasks.options import TextOptions as TextOptions  # noqa: PLC0414
from bertune.tasks.protocol import Baseline, Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.reading import find_columns as find_columns  # noqa: PLC0414
from bertune.tasks.reading import text_rows
from bertune.tasks.reliability import Coverage, coverage_curve
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.baselines import logistic_regression, most_common
from bertune.tasks.shared.class_weights import balanced_weights, class_weights
from bertune.tasks.shared.folder_pooling import with_pooling
from bertune.tasks.shared.huggingface import is_for, label_settings, labels_of, linear_in_folder
from bertune.tasks.shared.metrics import classification_metrics, classification_rows
from bertune.tasks.shared.review import least_scores
from bertune.tasks.shared.scores import blocks_of, shown_scores
from bertune.tasks.shared.texts import by_example, label_index, text_features, text_item
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout


@dataclass(frozen=True, slots=True)
class TextExample:
    """A text, or a pair of texts, and its label's name where it is known. place: where it was read."""

    text: str
    pair: str | None = None
    label: str | None = None
    place: int = 0


Reader = Callable[[Path, TextOptions, bool], Iterator[TextExample]]
"""path, options, labelled → examples."""


def read_table(path: Path, options: TextColumns, labelled: bool) -> Iterator[TextExample]:
    """Examples from a file in any form, whose columns are named by the options or have customary names."""
    file = open_any(path, options, "labels", labelled=labelled)
    columns = find_columns(file, options, labelled=labelled)
    return examples_of(file, columns, labelled=labelled, drop_unlabelled=options.drop_unlabelled)


def examples_of(
    file: Rows, columns: tuple[str, str | None, str | None], *, labelled: bool, drop_unlabelled: bool = False
) -> Iterator[TextExample]:
    """Examples from the named columns: text, pair or None, label or None.

    Raises:
        InputError: at the end, all rows that lack a text or, when `labelled`, a label.
    """
    return itertools.starmap(
        TextExample, text_rows(file, columns, labelled=labelled, drop_unlabelled=drop_unlabelled and labelled)
    )


DEFAULTS = USUAL
_DIGITS = 6
"""Of a score that is shown, and compared with thresholds."""


@dataclass(frozen=True)
class TextClassification(BaseTask[TextExample]):
    """One label of a fixed list for every text or pair; labels are inferred from the training data."""

    Options: ClassVar[type[Any]] = TextOptions
    logit_kind: ClassVar[str] = "classes"
    metric_names: ClassVar[tuple[str, ...]] = (
        "accuracy",
        "f1",
        "precision",
        "recall",
        "matthews_correlation",
        "answered",
        "answered_accuracy",
    )

    name: str = "text-classification"
    options: TextOptions = TextOptions()  # noqa: RUF009 (frozen)
    reader: Reader = read_table
    """How a file becomes examples: any table here, GLUE's own forms for its names."""
    labels: tuple[str, ...] = ()
    """The classes, in the order of the logits."""
    weights: tuple[float, ...] = ()
    """How much every class counts in training; none: alike."""
    coverage: Coverage = ()
    """Scores and the accuracy of validation rows answered with at least these; none where there were too few rows."""
    metric: str = "accuracy"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[TextExample]:
        """Texts and labels from a file. Rows that lack a text or, when `labelled`, a label are reported all at once."""
        return self.reader(path, self.options, labelled)

    def example(self, item: Any) -> TextExample:
        """From a string, a pair of strings, or a mapping with `text` and perhaps `pair`."""
        return TextExample(*text_item(item))

    def fit(self, examples: Sequence[TextExample], *, path: Path, settings: Mapping[str, Any]) -> Self:
        """With the labels of the training data; a fine-tuned start that knows the same names keeps its order."""
        found = sorted({example.label for example in examples if example.label is not None}, key=_label_order)
        if len(found) < 2:
            only = f"only {found[0]!r}" if found else "none"
            raise InputError(f"{path}: a classifier needs at least two different labels; this file has {only}")
        known = labels_of(settings)
        labels = known if sorted(known) == sorted(found) else tuple(found)
        given = (example.label for example in examples)
        weights = class_weights(self.options.class_weights, labels, lambda: balanced_weights(given, labels))
        least_scores(dataclasses.replace(self.options, automate_at=None), labels, ())  # refuses unknown labels
        return dataclasses.replace(
            self, labels=labels, weights=weights, options=with_pooling(self.options, examples, settings)
        )

    def problems(self, examples: Sequence[TextExample], path: Path) -> list[str]:
        """Labels that training never saw."""
        known = set(self.labels)
        strange: dict[str, TextExample] = {}
        for example in examples:
            if example.label is not None and example.label not in known:
                strange.setdefault(example.label, example)
        return [
            f"{path}, line {example.place}: label {label!r} never occurs in the training data; "
            f"known: {named(self.labels)}"
            for label, example in strange.items()
        ]

    def featurize(
        self, examples: Sequence[TextExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """`[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`, cut as google-research/bert cuts or as said."""
        targets = {} if purpose == "predict" else self.targets(examples)
        return text_features(examples, tokenizer, max_seq_length, targets, self.options.long_text)

    def targets(self, examples: Sequence[TextExample]) -> dict[str, Column]:
        """`label`: the number of every example's."""
        index = {label: i for i, label in enumerate(self.labels)}
        return {"label": np.array([index[str(example.label)] for example in examples], np.int32)}

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A linear layer on the pooled output, or on the first token of several layers."""
        from bertune.tasks.shared.heads import pooled_head

        return pooled_head(config, len(self.labels), self.options.layers, self.options.pooling)

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",  # noqa: ARG002
    ) -> tuple["Tensor", "Tensor"]:
        """Softmax cross-entropy, one term a sequence. Shape: logits (sequences, labels), targets label (sequences,)."""
        from bertune.tasks.shared.heads import cross_entropy

        return cross_entropy(logits, targets["label"], self.options, self.weights)

    def decode(self, logits: Logits, features: Features, examples: Sequence[TextExample]) -> list[Prediction]:
        """`{"label", "score", "scores": {name: probability}}` for every text; of many labels the best scores alone.

        With `threshold` or `automate_at` also `review`: whether a person must look, and there `label` is None.
        """
        if not len(logits):
            return []
        options = self.options
        found: list[Prediction] = []
        for block in blocks_of(by_example(logits, features, len(examples))):
            probabilities = softmax(block)
            best = probabilities.argmax(1)
            every = shown_scores(self.labels, probabilities, options.top_k, all_scores=options.all_scores)
            found += [
                {"label": self.labels[index], "score": round(float(row[index]), _DIGITS), "scores": scores}
                for index, row, scores in zip(best, probabilities, every, strict=True)
            ]
        least = least_scores(options, self.labels, self.coverage)
        if least is None:
            return found
        index = {label: i for i, label in enumerate(self.labels)}
        for one in found:
            needed = least[index[one["label"]]]
            one["review"] = bool(one["score"] < needed)
            if one["review"]:
                one["label"] = None
        return found

    def summary(self, example: TextExample, prediction: Prediction) -> tuple[str, str, str]:
        """Text, label, probability."""
        text = example.text if example.pair is None else f"{example.text} | {example.pair}"
        return text, prediction["label"] or "(review)", f"{prediction['score']:.3f}"

    def metrics(self, logits: Logits, features: Features, examples: Sequence[TextExample]) -> dict[str, float]:
        """Accuracy, Matthews correlation, and f1, precision, recall of the second class (two) or their means (more).

        All of the answers that the model would give. With `threshold` or `automate_at` also `answered`, the share of
        rows that are not left to a person, and `answered_accuracy`, that of these; 0 where there are none.
        """
        rows = self.calibration_rows(logits, features, examples)
        truth, predicted = rows.truth.astype(np.int64), rows.logits.argmax(1)
        found = classification_metrics(truth, predicted, len(self.labels))
        options = self.options
        if options.threshold is None and (options.automate_at is None or not self.coverage):
            return found
        if not self.coverage:
            options = dataclasses.replace(options, automate_at=None)
        least = least_scores(options, self.labels, self.coverage)
        assert least is not None
        stands = np.round(rows.surest()[0], _DIGITS) >= least[predicted]
        right = (truth == predicted)[stands]
        answered_accuracy = float(right.mean()) if len(right) else 0.0
        return {**found, "answered": float(stands.mean()), "answered_accuracy": answered_accuracy}

    def row_metrics(self, examples: Sequence[TextExample], predictions: Sequence[Prediction]) -> RowMetrics:
        """The same metrics, row by row."""
        index = {label: i for i, label in enumerate(self.labels)}
        truth = np.array([index[str(example.label)] for example in examples], np.int64)
        found = np.array([index[_surest(prediction)] for prediction in predictions], np.int64)
        return classification_rows(truth, found, len(self.labels))

    def averaging(self) -> str:
        """Of two labels f1 is the second one's, of more their mean."""
        return f"of {self.labels[1]!r}" if len(self.labels) == 2 else "macro average"

    def baselines(self) -> Mapping[str, Baseline]:
        """The commonest label, and logistic regression on words."""

        def majority(train: Sequence[TextExample], rows: Sequence[TextExample]) -> list[Prediction]:
            return [{"label": most_common(example.label for example in train)}] * len(rows)

        def logistic(train: Sequence[TextExample], rows: Sequence[TextExample]) -> list[Prediction]:
            weights = "balanced" if self.options.class_weights == ["balanced"] else None
            labels = [example.label for example in train]
            return [{"label": str(one)} for one in logistic_regression(train, labels, rows, class_weight=weights)]

        return {"majority": majority, "tfidf_logistic_regression": logistic}

    def evidence(self, logits: "Tensor", label: str | None) -> "Tensor":
        """Log-odds of the label against all others. Shape: (sequences, labels) → (sequences,)."""
        index = label_index(self.labels, label)
        others = [i for i in range(len(self.labels)) if i != index]
        return logits[:, index] - logits[:, others].logsumexp(1)

    def feature_key(self) -> Mapping[str, Any]:
        """All but the head and the loss."""
        return self._described_without(
            "weights", "coverage", "class_weights", "label_smoothing", "focal_gamma", "layers", "pooling", "top_k",
            "all_scores", "threshold", "automate_at",
        )  # fmt: skip

    def calibration_rows(self, logits: Logits, features: Features, examples: Sequence[TextExample]) -> CalibrationRows:
        """Every text's logits and label."""
        index = {label: i for i, label in enumerate(self.labels)}
        truth = np.array([index[str(example.label)] for example in examples], np.int64)
        return CalibrationRows(by_example(logits, features, len(examples)), truth)

    def tuned(self, logits: Logits, features: Features, examples: Sequence[TextExample]) -> Self:
        """With the accuracy of these texts' answers by their score, where they are enough."""
        rows = self.calibration_rows(logits, features, examples)
        if len(examples) < LEAST_ROWS:
            return self
        highest, answers = rows.surest()
        curve = coverage_curve(highest, answers == rows.truth)
        return dataclasses.replace(self, coverage=curve)

    def with_options(self, options: Any) -> Self:
        """The same task under other options. Raises InputError for one that decides the model's form, bad labels."""
        changed = super().with_options(options)
        least_scores(changed.options, self.labels, self.coverage)
        return changed

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint's labels are these, in this order, and of whole texts."""
        return labels_of(settings) == self.labels and is_for(settings, "ForSequenceClassification", default=True)

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForSequenceClassification`; with several layers `AutoModel` and a head beside it."""
        settings = label_settings(self.labels, "single_label_classification")
        return linear_in_folder(
            "ForSequenceClassification", self.options.layers, settings, pooling=self.options.pooling
        )

    def to_json(self) -> dict[str, Any]:
        """Name, options, labels, weights, coverage where it is known."""
        learnt = {"labels": list(self.labels), "weights": list(self.weights)}
        if self.coverage:
            learnt["coverage"] = [list(point) for point in self.coverage]
        return {"name": self.name, "options": dataclasses.asdict(self.options), **learnt}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """With what `to_json` kept."""
        curve = tuple((float(score), float(right)) for score, right in state.get("coverage", ()))
        labels, weights = tuple(state["labels"]), tuple(state.get("weights", ()))
        return dataclasses.replace(self, labels=labels, weights=weights, coverage=curve)


def _surest(prediction: Prediction) -> str:
    """The label of a prediction, or the most probable one where it is left to a person."""
    label, scores = prediction["label"], prediction.get("scores") or {}
    return str(max(scores, key=lambda name: scores[name]) if label is None else label)


def _label_order(label: str) -> tuple[int, float, str]:
    """Numbers by value, then names by alphabet, "nan" among them: a total order, the same in every process."""
    try:
        number = float(label)
    except ValueError:
        return (1, 0.0, label)
    return (1, 0.0, label) if math.isnan(number) else (0, number, label)


def softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities along the last axis. Shape: (…, classes) → the same."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    result: npt.NDArray[np.float64] = exponents / exponents.sum(-1, keepdims=True)
    return result
