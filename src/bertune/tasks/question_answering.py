"""Extractive question answering: the span of a context that answers a question, or none (SQuAD 1.1 and 2.0)."""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, counted
from bertune.features import Features, Ragged
from bertune.tasks.base import BaseTask
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.hyperparameters import QUESTION_ANSWERING
from bertune.tasks.options import QuestionOptions
from bertune.tasks.protocol import Baseline, Defaults, HuggingFaceHead, Logits, Prediction, Purpose
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.huggingface import is_for, linear_in_folder
from bertune.tasks.squad.answer_metrics import AnswerMetric
from bertune.tasks.squad.decoding import Decoded, decode_answers
from bertune.tasks.squad.diagnostics import answer_length, by_kind, null_curve, question_word
from bertune.tasks.squad.metric_choice import choose_metric
from bertune.tasks.squad.metrics import answer_scores, evaluate, question_rows, threshold_to_apply
from bertune.tasks.squad.reading import Columns, QuestionExample, read_questions, stream_questions
from bertune.tasks.squad.windows import Windows, build_windows
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.layout import Layout

logger = logging.getLogger(__name__)

DEFAULTS = QUESTION_ANSWERING


@dataclass(frozen=True)
class QuestionAnswering(BaseTask[QuestionExample]):
    """A span of the context for every question; with unanswerable questions in training, perhaps none."""

    Options: ClassVar[type[Any]] = QuestionOptions
    logit_kind: ClassVar[str] = "span"
    metric_names: ClassVar[tuple[str, ...]] = (
        "exact_match", "f1", "HasAns_exact_match", "HasAns_f1", "NoAns_exact_match", "NoAns_f1", "best_exact",
        "best_f1",
    )  # fmt: skip

    name: str = "question-answering"
    options: QuestionOptions = QuestionOptions()  # noqa: RUF009 (frozen)
    has_unanswerable: bool = False
    """Whether training held unanswerable questions: only then may the answer be ""."""
    tuned_threshold: float = 0.0
    """Null threshold that validation data gave."""
    metric: str = "f1"
    defaults: Defaults = DEFAULTS

    def read(self, path: Path, *, labelled: bool) -> Iterator[QuestionExample]:
        """Questions from SQuAD JSON or a flat file; labelled ones are checked and what was noticed is said."""
        columns = Columns(question=self.options.question_column, context=self.options.context_column)
        if not labelled:
            return stream_questions(path, columns, self.options)
        examples, report = read_questions(
            path,
            labelled=True,
            fix_offsets=self.options.fix_offsets,
            columns=columns,
            skip_bad=self.options.skip_bad,
            table=self.options,
        )
        for line in report.lines():
            logger.info("%s", line)
        return iter(examples)

    def example(self, item: Any) -> QuestionExample:
        """From a mapping with `question`, `context` and perhaps `id`."""
        if not isinstance(item, Mapping) or not all(isinstance(item.get(k), str) for k in ("question", "context")):
            raise InputError(f"predict: expected {{'question': …, 'context': …}}, not {item!r}")
        for name in ("question", "context"):
            if not item[name].strip():
                raise InputError(f"predict: the {name} is empty in {item!r}")
        return QuestionExample(str(item.get("id", "")), item["question"], item["context"], (), False, None, "predict")

    def fit(
        self,
        examples: Sequence[QuestionExample],
        *,
        path: Path,  # noqa: ARG002
        settings: Mapping[str, Any],  # noqa: ARG002
    ) -> Self:
        """Whether some questions have no answer."""
        return dataclasses.replace(self, has_unanswerable=any(example.is_impossible for example in examples))

    def problems(self, examples: Sequence[QuestionExample], path: Path) -> list[str]:  # noqa: ARG002
        """None: reading has checked everything."""
        return []

    def featurize(
        self, examples: Sequence[QuestionExample], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """Windows `[CLS] question [SEP] part of the context [SEP]`; see `tasks.squad.windows`.

        In training a window that does not show the answer has none, also where truncating cut the answer away.
        """
        options = self.options
        windows = build_windows(
            examples,
            tokenizer,
            training=purpose == "train",
            max_seq_length=max_seq_length,
            doc_stride=options.doc_stride,
            max_query_length=min(options.max_query_length, max(1, max_seq_length // 2)),
            truncate=options.long_text == "truncate",
        )
        _say_losses(windows, purpose)
        targets = {"start": windows.start_position, "end": windows.end_position}
        return Features(
            windows.input_ids,
            windows.segment_ids,
            windows.example_index,
            {} if purpose == "predict" else targets,
            windows.cut,
            {
                "context_start": windows.context_start,
                "char_start": windows.char_start,
                "char_end": windows.char_end,
                "max_context": windows.max_context,
            },
        )

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A linear layer on every token, of the last layer or of several."""
        from bertune.tasks.squad.head import span_head

        return span_head(config, self.options.layers)

    def loss(
        self,
        logits: "Tensor",
        targets: Mapping[str, "Tensor"],
        layout: "Layout",
    ) -> tuple["Tensor", "Tensor"]:
        """Cross-entropy of start and end over a window's real tokens, one term a window.

        Shape: logits (tokens, 2); targets start and end (sequences,) each.
        """
        import torch

        from bertune.tasks.squad.head import span_loss

        start, end = targets["start"], targets["end"]
        return span_loss(logits, start, end, layout), torch.tensor(start.numel())

    @property
    def null_threshold(self) -> float | None:
        """The threshold that `predict` obeys; None: always answer."""
        if self.options.null_threshold is not None:
            return self.options.null_threshold
        return self.tuned_threshold if self.has_unanswerable else None

    def decode(self, logits: Logits, features: Features, examples: Sequence[QuestionExample]) -> list[Prediction]:
        """`{"id", "answer", "score", "start", "end"}` for every question; with top_k also "answers"."""
        decoded = self._decoded(logits, features, examples)
        return [self._prediction(example, one) for example, one in zip(examples, decoded, strict=True)]

    def _prediction(self, example: QuestionExample, decoded: Decoded) -> Prediction:
        best = decoded.best
        prediction: Prediction = {
            "id": example.id,
            "answer": best.text,
            "score": round(best.score, 6),
            "start": best.start,
            "end": best.end,
        }
        if self.options.top_k > 1:
            prediction["answers"] = [
                {"answer": one.text, "score": round(one.score, 6), "start": one.start, "end": one.end}
                for one in decoded.candidates[: self.options.top_k]
            ]
        return prediction

    def _decoded(self, logits: Logits, features: Features, examples: Sequence[QuestionExample]) -> list[Decoded]:
        if not examples:
            return []
        both = np.concatenate(list(logits))
        return decode_answers(
            _windows(features),
            both[:, 0],
            both[:, 1],
            examples,
            n_best=max(self.options.n_best, self.options.top_k),
            max_answer_length=self.options.max_answer_length,
            null_threshold=self.null_threshold,
        )

    def summary(self, example: QuestionExample, prediction: Prediction) -> tuple[str, str, str]:
        """Question, answer, probability."""
        return example.question, prediction["answer"] or "(no answer)", f"{prediction['score']:.3f}"

    def metrics(self, logits: Logits, features: Features, examples: Sequence[QuestionExample]) -> dict[str, float]:
        """exact_match and f1 in per cent; with unanswerable questions HasAns_, NoAns_ and best_ parts too."""
        metric = self._answer_metric(examples)
        logger.info("answers are scored by the rules of %s (--qa-metric)", metric.name, extra={"once": True})
        return _metrics(self._decoded(logits, features, examples), examples, metric)

    def _answer_metric(self, examples: Sequence[QuestionExample]) -> AnswerMetric:
        return choose_metric(examples, self.options.qa_metric)

    def metric_settings(self, examples: Sequence[QuestionExample]) -> Mapping[str, str]:
        """`qa_metric`: whose rules compare answers to these questions."""
        return {"qa_metric": self._answer_metric(examples).name}

    def row_metrics(self, examples: Sequence[QuestionExample], predictions: Sequence[Prediction]) -> RowMetrics:
        """The same metrics, but for those under other thresholds (best_), row by row."""
        return question_rows(
            examples, [prediction["answer"] for prediction in predictions], self._answer_metric(examples)
        )

    def diagnostics(self, logits: Logits, features: Features, examples: Sequence[QuestionExample]) -> Mapping[str, Any]:
        """Exact match and F1 by question word and length of the answer; F1 by null threshold where there are odds."""
        decoded, metric = self._decoded(logits, features, examples), self._answer_metric(examples)
        scores = answer_scores(examples, [one.best.text for one in decoded], metric)
        found: dict[str, Any] = {
            "question_words": by_kind(examples, scores, lambda example: question_word(example.question)),
            "answer_lengths": by_kind(examples, scores, answer_length),
        }
        if self.null_threshold is not None and any(example.is_impossible for example in examples):
            spans = [one.span.text if one.span else "" for one in decoded]
            answered, nothing = (
                answer_scores(examples, spans, metric),
                answer_scores(examples, [""] * len(spans), metric),
            )
            odds = np.array([one.null_odds for one in decoded], np.float64)
            found["null_curve"] = {
                "threshold": self.null_threshold,
                "curve": null_curve(odds, answered[:, 1], nothing[:, 1]),
            }
        return found

    def baselines(self) -> Mapping[str, Baseline]:
        """No answer to any question, where there are unanswerable ones."""

        def majority(train: Sequence[QuestionExample], rows: Sequence[QuestionExample]) -> list[Prediction]:  # noqa: ARG001
            return [{"answer": ""}] * len(rows)

        return {"majority": majority} if self.has_unanswerable else {}

    def feature_key(self) -> Mapping[str, Any]:
        """All but the head and the search for the best span."""
        search = ("tuned_threshold", "null_threshold", "qa_metric", "n_best", "top_k", "max_answer_length")
        return self._described_without(*search, "layers")

    def tuned(self, logits: Logits, features: Features, examples: Sequence[QuestionExample]) -> Self:
        """With the null threshold whose answers have the best f1 on these questions."""
        unanswerable = any(example.is_impossible for example in examples)
        if not (self.has_unanswerable and unanswerable) or self.options.null_threshold is not None:
            return self
        pairs = list(zip(examples, self._decoded(logits, features, examples), strict=True))
        odds = {example.id: one.null_odds for example, one in pairs}
        spans = {example.id: one.span.text if one.span else "" for example, one in pairs}
        threshold, _ = threshold_to_apply(examples, odds, spans, self._answer_metric(examples))
        return dataclasses.replace(self, tuned_threshold=threshold)

    def calibration_rows(
        self, logits: Logits, features: Features, examples: Sequence[QuestionExample]
    ) -> CalibrationRows | None:
        """Every question's candidates, which of them is the answer, and whether that matches a true answer exactly.

        None with `--null-threshold`: it is a difference of logits as they are, which a temperature would change.
        """
        if not examples or self.options.null_threshold is not None:
            return None
        decoded = self._decoded(logits, features, examples)
        table = np.full((len(decoded), max(len(one.candidates) for one in decoded)), -np.inf)
        for row, one in enumerate(decoded):
            table[row, : len(one.candidates)] = [candidate.logit for candidate in one.candidates]
        chosen = np.array([one.candidates.index(one.best) for one in decoded], np.int64)
        scores = answer_scores(examples, [one.best.text for one in decoded], self._answer_metric(examples))
        return CalibrationRows(table, scores[:, 0] > 0, chosen)

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When the checkpoint was fine-tuned for question answering."""
        return is_for(settings, "ForQuestionAnswering")

    def huggingface(self) -> HuggingFaceHead:
        """`AutoModelForQuestionAnswering`; with several layers `AutoModel` and a head beside it."""
        return linear_in_folder("ForQuestionAnswering", self.options.layers, tensor="qa_outputs")

    def to_json(self) -> dict[str, Any]:
        """Name, options, threshold."""
        learnt = {"has_unanswerable": self.has_unanswerable, "tuned_threshold": self.tuned_threshold}
        return {"name": self.name, "options": dataclasses.asdict(self.options), **learnt}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """With the threshold that `to_json` kept."""
        unanswerable, threshold = bool(state["has_unanswerable"]), float(state["tuned_threshold"])
        return dataclasses.replace(self, has_unanswerable=unanswerable, tuned_threshold=threshold)


def _metrics(decoded: Sequence[Decoded], examples: Sequence[QuestionExample], metric: AnswerMetric) -> dict[str, float]:
    pairs = list(zip(examples, decoded, strict=True))
    unanswerable = any(example.is_impossible for example in examples)
    found = evaluate(
        examples,
        {example.id: one.best.text for example, one in pairs},
        {example.id: one.null_odds for example, one in pairs} if unanswerable else None,
        {example.id: one.span.text if one.span else "" for example, one in pairs} if unanswerable else None,
        metric,
    )
    return {name: float(value) for name, value in found.items()}


def _windows(features: Features) -> Windows:
    """The windows that features were made of, for decoding."""
    none = np.zeros(len(features), np.int32)
    columns: dict[str, Ragged] = {
        name: column for name, column in features.extras.items() if isinstance(column, Ragged)
    }
    starts: npt.NDArray[np.int32] = np.asarray(features.extras["context_start"], np.int32)
    return Windows(
        input_ids=features.input_ids,
        segment_ids=features.segment_ids,
        example_index=features.example_index,
        context_start=starts,
        char_start=columns["char_start"],
        char_end=columns["char_end"],
        max_context=columns["max_context"],
        start_position=none,
        end_position=none,
        cut=features.cut,
        questions_cut=0,
        unaligned=(),
    )


def _say_losses(windows: Windows, purpose: Purpose) -> None:
    if windows.questions_cut:
        logger.warning("cut at --max-query-length: %s", counted(windows.questions_cut, "question"))
    if windows.unaligned and purpose == "train":
        named = ", ".join(windows.unaligned[:5]) + (", …" if len(windows.unaligned) > 5 else "")
        logger.warning(
            "left out of training, for their answers match no token: %s (%s)",
            counted(len(windows.unaligned), "question"),
            named,
        )
