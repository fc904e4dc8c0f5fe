"""Multiple choice: which of several texts goes best with a context, any number of them (SWAG, RACE)."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.features import Features
from bertune.tasks.base import BaseTask
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.choices import ChoiceExample, from_record, read_choices
from bertune.tasks.hyperparameters import MULTIPLE_CHOICE
from bertune.tasks.options import ChoiceOptions
from bertune.tasks.protocol import Baseline, Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.baselines import most_common
from bertune.tasks.shared.histograms import histogram
from bertune.tasks.shared.huggingface import is_for, linear_in_folder
from bertune.tasks.shared.texts import mean_of, text_features
from bertune.tasks.text_classification import TextExample, softmax
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

DEFAULTS = MULTIPLE_CHOICE


@dataclass(frozen=True)
class MultipleChoice(BaseTask[ChoiceExample]):
    """A score for every choice; a softmax over the choices of a question."""

    Options: ClassVar[type[Any]] = ChoiceOptions
    logit_kind: ClassVar[str] = "choices"
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy",)

    name: str = "multiple-choice"
    options: ChoiceOptions = ChoiceOptions()  # noqa: RUF009 (frozen)
    metric: str = "accuracy"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[ChoiceExample]:
        """Questions with their choices; see `tasks.choices` for the shapes."""
        return read_choices(path, self.options, labelled=labelled)

    def example(self, item: Any) -> ChoiceExample:
        """From a mapping with `context`, `question` or both, and `choices`."""
        if not isinstance(item, Mapping):
            raise InputError(f"predict: expected {{'context': …, 'question': …, 'choices': […]}}, not {item!r}")
        try:
            return from_record(item, [], self.options.choices, blank=self.options.blank)
        except InputError as error:
            raise InputError(f"predict: {error} in {item!r}") from None

    def featurize(
        self, examples: Sequence[ChoiceExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """`[CLS] context [SEP] question and choice [SEP]` for every choice; a question's go into one batch.

        extras: `choice`, which choice every sequence is of, counted through all questions.
        """
        pairs = [TextExample(example.first, second) for example in examples for second in example.seconds]
        question = np.repeat(np.arange(len(examples)), [len(example.seconds) for example in examples]).astype(np.int32)
        targets = {}
        if purpose != "predict":
            right = [place == example.answer for example in examples for place in range(len(example.seconds))]
            choice = np.arange(len(pairs), dtype=np.int32)
            targets = {"right": np.array(right, np.int32), "question": question, "choice": choice}
        plain = text_features(pairs, tokenizer, max_seq_length, targets, self.options.long_text)
        choice = plain.example_index
        return dataclasses.replace(plain, example_index=question[choice], extras={"choice": choice}, together=True)

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A linear layer with one output on the pooled output, or on the first token of several layers."""
        from bertune.tasks.shared.heads import pooled_head

        return pooled_head(config, 1, self.options.layers)

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",  # noqa: ARG002
    ) -> tuple["Tensor", "Tensor"]:
        """Softmax cross-entropy over the choices of every question, one term a question; windows are averaged first.

        Shape: logits (sequences, 1); targets right, question and choice (sequences,) each.
        """
        import torch

        from bertune.tasks.shared.heads import grouped_cross_entropy, mean_of_runs

        first, scores = mean_of_runs(logits[:, 0], targets["choice"])
        _, group = torch.unique_consecutive(targets["question"][first], return_inverse=True)
        return grouped_cross_entropy(scores, targets["right"][first], group, self.options)

    def _scores(
        self, logits: Logits, features: Features, examples: Sequence[ChoiceExample]
    ) -> list[npt.NDArray[np.float64]]:
        """Probabilities of every question's choices."""
        return [softmax(values) for values in self._logits(logits, features, examples)]

    def _logits(
        self, logits: Logits, features: Features, examples: Sequence[ChoiceExample]
    ) -> list[npt.NDArray[np.float32]]:
        """Logits of every question's choices, those of several windows averaged."""
        if not examples:
            return []
        sizes = [len(example.seconds) for example in examples]
        _, choice = np.unique(np.asarray(features.extras["choice"]), return_inverse=True)
        values = mean_of(np.stack(list(logits)), choice, sum(sizes))[:, 0]
        return np.split(values, np.cumsum(sizes)[:-1])

    def calibration_rows(
        self, logits: Logits, features: Features, examples: Sequence[ChoiceExample]
    ) -> CalibrationRows:
        """The logits of every question's choices, and the place of the right one."""
        rows = self._logits(logits, features, examples)
        whole = np.full((len(rows), max(map(len, rows), default=0)), -np.inf)
        for place, row in enumerate(rows):
            whole[place, : len(row)] = row
        return CalibrationRows(whole, np.array([example.answer for example in examples], np.int64))

    def decode(self, logits: Logits, features: Features, examples: Sequence[ChoiceExample]) -> list[Prediction]:
        """`{"answer": place from 0, "text", "score", "scores": [probabilities]}` for every question."""
        return [
            {
                "answer": int(row.argmax()),
                "text": example.choices[int(row.argmax())],
                "score": round(float(row.max()), 6),
                "scores": [round(float(p), 6) for p in row],
            }
            for example, row in zip(examples, self._scores(logits, features, examples), strict=True)
        ]

    def summary(self, example: ChoiceExample, prediction: Prediction) -> tuple[str, str, str]:
        """Context, choice, probability."""
        return example.first, prediction["text"], f"{prediction['score']:.3f}"

    def metrics(self, logits: Logits, features: Features, examples: Sequence[ChoiceExample]) -> dict[str, float]:
        """Share of questions whose right choice has the best score."""
        rows = self._scores(logits, features, examples)
        right = [int(row.argmax()) == example.answer for example, row in zip(examples, rows, strict=True)]
        return {"accuracy": float(np.mean(right))}

    def row_metrics(self, examples: Sequence[ChoiceExample], predictions: Sequence[Prediction]) -> RowMetrics:
        """The same metric, row by row."""
        pairs = zip(examples, predictions, strict=True)
        right = np.array([prediction["answer"] == example.answer for example, prediction in pairs], np.bool_)
        return RowMetrics.means(correct=right, accuracy=right)

    def diagnostics(self, logits: Logits, features: Features, examples: Sequence[ChoiceExample]) -> Mapping[str, Any]:
        """Where choices fail: by place of the right one, by its length among them, by how far the best is ahead."""
        rows = self._scores(logits, features, examples)
        right = np.array([example.answer for example in examples], np.int64)
        answers = np.array([int(row.argmax()) for row in rows], np.int64)
        lead = np.array([float(np.diff(np.sort(row)[-2:])[0]) if len(row) > 1 else 1.0 for row in rows])
        places = [
            {
                "place": place,
                "rows": int((right == place).sum()),
                "answered": int((answers == place).sum()),
                "accuracy": float((answers == right)[right == place].mean()) if (right == place).any() else None,
            }
            for place in range(max(map(len, rows), default=0))
        ]
        longest = np.array([int(np.argmax([len(choice) for choice in example.choices])) for example in examples])
        return {
            "choice_places": places,
            "choice_longest": {
                "right": float((right == longest).mean()),
                "answered": float((answers == longest).mean()),
            },
            "choice_leads": histogram({"right": lead[answers == right], "wrong": lead[answers != right]}),
        }

    def baselines(self) -> Mapping[str, Baseline]:
        """The place where the right answer stands most often."""

        def majority(train: Sequence[ChoiceExample], rows: Sequence[ChoiceExample]) -> list[Prediction]:
            return [{"answer": most_common(example.answer for example in train)}] * len(rows)

        return {"majority": majority}

    def feature_key(self) -> Mapping[str, Any]:
        """All but the head and the loss."""
        return self._described_without("label_smoothing", "focal_gamma", "layers")

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint was fine-tuned for multiple choice."""
        return is_for(settings, "ForMultipleChoice")

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForMultipleChoice`; with several layers `AutoModel` and a head beside it."""
        return linear_in_folder("ForMultipleChoice", self.options.layers)
