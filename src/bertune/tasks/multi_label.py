"""Multi-label classification: any number of labels for a text, none included."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bertune.data.columns import named
from bertune.data.formats.registry import open_any
from bertune.data.rows import Row
from bertune.data.tables import Rows
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, Problems
from bertune.features import IGNORED, Column, Features
from bertune.tasks.base import BaseTask
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.hyperparameters import USUAL
from bertune.tasks.label_forms import flag_of, reader_of
from bertune.tasks.options import MultiLabelOptions, TextColumns
from bertune.tasks.protocol import Baseline, Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.reading import EmptyTexts, LeftOut, by_name_or_number, find_columns, log_columns
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.baselines import logistic_regression_each, most_common
from bertune.tasks.shared.class_weights import class_weights
from bertune.tasks.shared.huggingface import label_settings, labels_of, linear_in_folder
from bertune.tasks.shared.label_curves import commonest, label_curves
from bertune.tasks.shared.metrics import decision_rows
from bertune.tasks.shared.review import per_label
from bertune.tasks.shared.scores import blocks_of, shown_scores
from bertune.tasks.shared.texts import by_example, label_index, shown, text_features, text_item
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

logger = logging.getLogger(__name__)

DEFAULTS = USUAL
RARE = 0.02
"""Share of the texts below which a label's threshold has to show that the label was learnt."""
LEARNT = 2.0
"""How many times the f1 of giving a rare label to every text its threshold has to reach."""


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text or pair and its labels. place: line of the file."""

    text: str
    pair: str | None = None
    labels: frozenset[str] = frozenset()
    place: int = 0


@dataclass(frozen=True)
class MultiLabelClassification(BaseTask[LabelledText]):
    """A probability for every label; those above the label's threshold are given."""

    Options: ClassVar[type[Any]] = MultiLabelOptions
    logit_kind: ClassVar[str] = "labels"
    metric_names: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "f1_macro", "accuracy", "f1/")

    name: str = "multi-label-classification"
    options: MultiLabelOptions = MultiLabelOptions()  # noqa: RUF009 (frozen)
    labels: tuple[str, ...] = ()
    """In the order of the logits."""
    thresholds: tuple[float, ...] = ()
    """For every label the least probability at which it is given; tuned on validation data."""
    weights: tuple[float, ...] = ()
    """For every label how much its presence counts in training beside its absence; none: alike."""
    metric: str = "f1"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[LabelledText]:
        """Texts and labels of a table; all bad cells are reported together."""
        options = self.options
        file = open_any(path, options, "labels", labelled=labelled)
        problems = Problems()
        flags = [by_name_or_number(file, name, "--label-columns", problems) for name in options.label_columns or ()]
        problems.raise_if_any()
        labels = self._label_reader(file, [name for name in flags if name is not None]) if labelled else None
        one_column = TextColumns(options.text_column, options.pair_column, options.label_column)
        text_column, pair_column, _ = find_columns(file, one_column, labelled=False)
        if labelled and flags:
            log_columns(file, {"text": text_column, "pair": pair_column} | {f"label {name}": name for name in flags})
        left_out, empty = LeftOut("without a text"), EmptyTexts(file, text_column, labelled=labelled)
        for row in file:
            text, pair = row.values.get(text_column), row.values.get(pair_column) if pair_column else None
            if labelled and options.drop_unlabelled and not (isinstance(text, str) and text.strip()):
                left_out.add(row.line)
                continue
            if not isinstance(text, str) or not (pair is None or isinstance(pair, str)):
                problems.add(f"{file.where(row, text_column)}: expected text, found {text!r}, {pair!r}")
            found: frozenset[str] = frozenset()
            try:
                if labels is not None:
                    found = labels(row)
            except InputError as error:
                problems.add(str(error))
            if not problems:
                empty.add(row.line, str(text), None if pair is None else str(pair))
                yield LabelledText(str(text), None if pair is None else str(pair), found, row.line)
        problems.raise_if_any()
        left_out.log(path)
        empty.tell()

    def _label_reader(self, file: Rows, flags: Sequence[str]) -> Callable[[Row], frozenset[str]]:
        """What finds the labels of a row: in a column each, or in one."""
        if flags:
            return lambda row: _flagged(file, row, flags)
        options = self.options
        texts = TextColumns(options.text_column, options.pair_column, options.label_column)
        column = str(find_columns(file, texts, labelled=True)[2])
        read = reader_of(file, column, options.label_delimiter, options.label_names)

        def labels(row: Row) -> frozenset[str]:
            try:
                return read(row.values.get(column))
            except InputError as error:
                raise InputError(f"{file.where(row, column)}: {error}") from None

        return labels

    def example(self, item: Any) -> LabelledText:
        """From a string, a pair of strings, or a mapping with `text` and perhaps `pair`."""
        return LabelledText(*text_item(item))

    def fit(self, examples: Sequence[LabelledText], *, path: Path, settings: Mapping[str, Any]) -> Self:
        """With the labels of the training data, thresholds of one half, and weights where classes are balanced."""
        found = tuple(sorted(set().union(*(example.labels for example in examples))))
        if not found:
            raise InputError(f"{path}: no text has a label")
        known = labels_of(settings)
        labels = known if sorted(known) == list(found) else found

        def balanced() -> tuple[float, ...]:
            counts = [sum(label in example.labels for example in examples) for label in labels]
            return tuple((len(examples) - count) / count if count < len(examples) else 1.0 for count in counts)

        weights = class_weights(self.options.class_weights, labels, balanced)
        per_label(self.options.threshold or (), labels, np.zeros(len(labels)))  # refuses unknown labels
        return dataclasses.replace(self, labels=labels, thresholds=(0.5,) * len(labels), weights=weights)

    def problems(self, examples: Sequence[LabelledText], path: Path) -> list[str]:
        """Labels that training never saw."""
        strange: dict[str, LabelledText] = {}
        for example in examples:
            for label in example.labels.difference(self.labels):
                strange.setdefault(label, example)
        return [
            f"{path}, line {example.place}: label {label!r} never occurs in the training data; "
            f"known: {named(self.labels)}"
            for label, example in sorted(strange.items())
        ]

    def _truth(self, examples: Sequence[LabelledText]) -> npt.NDArray[np.bool_]:
        return self._marked([example.labels for example in examples])

    def _marked(self, rows: Sequence[Iterable[str]]) -> npt.NDArray[np.bool_]:
        """Which labels each row has. Shape: (rows, labels)."""
        column = {label: i for i, label in enumerate(self.labels)}
        marked = np.zeros((len(rows), len(self.labels)), np.bool_)
        for row, labels in zip(marked, rows, strict=True):
            row[[column[label] for label in labels if label in column]] = True
        return marked

    def featurize(
        self, examples: Sequence[LabelledText], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """The text or pair, and the numbers of its labels."""
        targets = {} if purpose == "predict" else self.targets(examples)
        return text_features(examples, tokenizer, max_seq_length, targets, self.options.long_text)

    def targets(self, examples: Sequence[LabelledText]) -> dict[str, Column]:
        """`labels`: the numbers of every example's labels, and IGNORED up to the most that one example has.

        Of thousands of labels a text has a few: 0 or 1 for every label would be a thousand times as much.
        """
        column = {label: i for i, label in enumerate(self.labels)}
        found = [sorted(column[label] for label in example.labels if label in column) for example in examples]
        numbers = np.full((len(found), max(1, *map(len, found), 1)), IGNORED, np.int32)
        for row, some in zip(numbers, found, strict=True):
            row[: len(some)] = some
        return {"labels": numbers}

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A linear layer on the pooled output, or on the first token of several layers."""
        from bertune.tasks.shared.heads import pooled_head

        return pooled_head(config, len(self.labels), self.options.layers)

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",  # noqa: ARG002
    ) -> tuple["Tensor", "Tensor"]:
        """Sigmoid cross-entropy, one term a sequence and label.

        Shape: logits (sequences, labels), targets `labels` (sequences, most), as `targets` gives them.
        """
        from bertune.tasks.shared.heads import binary_cross_entropy, marked

        return binary_cross_entropy(logits, marked(targets["labels"], logits), self.options, self.weights)

    @property
    def _least(self) -> npt.NDArray[np.float64]:
        """For every label the probability from which on it is given: as `--threshold` says, or the tuned one."""
        return per_label(self.options.threshold or (), self.labels, np.array(self.thresholds, np.float64))

    def decode(self, logits: Logits, features: Features, examples: Sequence[LabelledText]) -> list[Prediction]:
        """`{"labels": [names], "scores": {name: probability}}`; of many labels the best and the given ones."""
        if not examples:
            return []
        options, found = self.options, []
        for block in blocks_of(by_example(logits, features, len(examples))):
            rows = sigmoid(block)
            given = rows >= self._least
            every = shown_scores(self.labels, rows, options.top_k, all_scores=options.all_scores, given=given)
            found += [
                {"labels": [self.labels[i] for i in np.flatnonzero(row)], "scores": scores}
                for row, scores in zip(given, every, strict=True)
            ]
        return found

    def summary(self, example: LabelledText, prediction: Prediction) -> tuple[str, str, str]:
        """Text, labels, the surest label's probability."""
        return shown(example), ", ".join(prediction["labels"]) or "(none)", f"{max(prediction['scores'].values()):.3f}"

    def metrics(self, logits: Logits, features: Features, examples: Sequence[LabelledText]) -> dict[str, float]:
        """f1, precision, recall over all decisions, their mean f1 by label, and texts whose labels are all right."""
        blocks = blocks_of(by_example(logits, features, len(examples)))
        given = [sigmoid(block) >= self._least for block in blocks]
        return decision_rows(self._truth(examples), np.concatenate(given), self.labels).metrics()

    def row_metrics(self, examples: Sequence[LabelledText], predictions: Sequence[Prediction]) -> RowMetrics:
        """The same metrics, row by row."""
        given = self._marked([prediction["labels"] for prediction in predictions])
        return decision_rows(self._truth(examples), given, self.labels)

    def diagnostics(self, logits: Logits, features: Features, examples: Sequence[LabelledText]) -> Mapping[str, Any]:
        """The commonest labels' curves of precision and recall."""
        rows, truth = by_example(logits, features, len(examples)), self._truth(examples)
        chosen = commonest(truth)
        labels = [self.labels[i] for i in chosen]
        curves = label_curves(labels, sigmoid(rows[:, chosen]), truth[:, chosen], self._least[chosen])
        return {"label_curves": curves}

    def averaging(self) -> str:
        """f1 counts the decisions of all labels together."""
        return "micro average"

    def baselines(self) -> Mapping[str, Baseline]:
        """The commonest set of labels, and logistic regression on words for every label."""

        def majority(train: Sequence[LabelledText], rows: Sequence[LabelledText]) -> list[Prediction]:
            return [{"labels": sorted(most_common(example.labels for example in train))}] * len(rows)

        def logistic(train: Sequence[LabelledText], rows: Sequence[LabelledText]) -> list[Prediction]:
            labels = [example.labels for example in train]
            return [{"labels": some} for some in logistic_regression_each(train, labels, rows, self.labels)]

        return {"majority": majority, "tfidf_logistic_regression": logistic}

    def evidence(self, logits: "Tensor", label: str | None) -> "Tensor":
        """Log-odds of the label. Shape: (sequences, labels) → (sequences,)."""
        return logits[:, label_index(self.labels, label)]

    def feature_key(self) -> Mapping[str, Any]:
        """All but the head, the loss and the thresholds."""
        loss = ("class_weights", "label_smoothing", "focal_gamma")
        return self._described_without("thresholds", "weights", *loss, "layers", "top_k", "all_scores", "threshold")

    def calibration_rows(self, logits: Logits, features: Features, examples: Sequence[LabelledText]) -> CalibrationRows:
        """Every text's logits, and which labels it has."""
        return CalibrationRows(by_example(logits, features, len(examples)), self._truth(examples))

    def with_options(self, options: Any) -> Self:
        """The same task under other options. Raises InputError for one that decides the model's form, bad labels."""
        changed = super().with_options(options)
        _ = changed._least
        return changed

    def tuned(self, logits: Logits, features: Features, examples: Sequence[LabelledText]) -> Self:
        """With the thresholds that give every label its best f1 on these texts."""
        rows, truth = by_example(logits, features, len(examples)), self._truth(examples)
        found = [best_threshold(sigmoid(column), true) for column, true in zip(rows.T, truth.T, strict=True)]
        return dataclasses.replace(self, thresholds=tuple(found))

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint's labels are these, in this order, and several may hold."""
        return labels_of(settings) == self.labels and settings.get("problem_type") == "multi_label_classification"

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForSequenceClassification`; with several layers `AutoModel` and a head beside it."""
        settings = label_settings(self.labels, "multi_label_classification")
        return linear_in_folder("ForSequenceClassification", self.options.layers, settings)


def sigmoid(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Probabilities of labels that are independent of one another. Shape: any → the same."""
    return 1 / (1 + np.exp(-np.clip(logits.astype(np.float64), -500, 500)))


def best_threshold(probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_]) -> float:
    """The threshold with the best f1, halfway between two neighbours; 0.5 for a label that never holds.

    Of a rare label that a model knows nothing of, the best f1 is had by giving it to most texts (Lipton et al., 2014,
    "Optimal thresholding of classifiers to maximize F1 measure"): where giving it to all is not outdone twofold, 0.5.

    Shape: (texts,) each.
    """
    if not truth.any():
        return 0.5
    share = float(truth.mean())
    order = np.argsort(-probabilities, kind="stable")
    values, right = probabilities[order], np.cumsum(truth[order])
    f1 = 2 * right / (np.arange(1, len(values) + 1) + truth.sum())
    last_of_equals = np.append(values[:-1] > values[1:], True)
    at = int(np.where(last_of_equals, f1, -1.0).argmax())
    if share < RARE and f1[at] < LEARNT * 2 * share / (1 + share):
        return 0.5
    below = values[at + 1] if at + 1 < len(values) else 0.0
    return float((values[at] + below) / 2)


def _flagged(file: Rows, row: Row, columns: Sequence[str]) -> frozenset[str]:
    found = []
    for column in columns:
        try:
            if flag_of(row.values.get(column)):
                found.append(column)
        except InputError as error:
            raise InputError(f"{file.where(row, column)}: {error}") from None
    return frozenset(found)
