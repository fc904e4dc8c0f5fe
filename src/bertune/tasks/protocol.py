"""What a task is: everything that differs between fine-tuning programs, and nothing else.

The walk of the data is one way and written once elsewhere:
rows → Example → Features → Batch → encoder → head → logits, loss; logits → Prediction → metrics.

A task has two sides. Reading, features, decoding and metrics are text and numbers, and need no torch; the head and the
loss are tensors. Modules of tasks import torch in `new_head` and `loss` alone (or leave both to a module of their own),
so that a model can be used where torch is not installed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from bertune.checkpoints.names import Rename
from bertune.encoder.config import EncoderConfig
from bertune.features import Features
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.hyperparameters import Defaults as Defaults  # noqa: PLC0414 (its home before)
from bertune.tasks.row_metrics import RowMetrics
from bertune.tokenization.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertune.encoder.encoder import EncoderOutput
    from bertune.encoder.layout import Layout

ExampleT = TypeVar("ExampleT")

Prediction = dict[str, Any]
"""One answer, as a JSON object; its keys are the task's."""

Baseline = Callable[[Sequence[Any], Sequence[Any]], list[Prediction]]
"""A simple method: training examples, examples to answer → predictions."""

Purpose = Literal["train", "evaluate", "predict"]
"""What features are for: training may leave out examples, prediction has no targets."""

Logits = Sequence[npt.NDArray[np.float32]]
"""A head's output for every sequence. Shape: (outputs,) each, or (tokens, outputs) each."""


class Head(Protocol):
    """A small module on the encoder's output.

    A head that reads `output.pooled_output` alone may declare it by the class attribute `reads = "pooled_output"`; the
    encoder's last layer then computes first tokens only, with the same results in less time. Without it every output is
    there.
    """

    def __call__(self, output: "EncoderOutput", layout: "Layout") -> "Tensor":
        """Logits. Shape: (sequences, outputs) or (tokens, outputs), float32."""
        ...


@dataclass(frozen=True)
class HuggingFaceHead:
    """How a head is kept in a Hugging Face folder.

    architecture: what follows the family's name (`ForSequenceClassification`).
    names: the head's tensors, ours and theirs.
    settings: what the task adds to config.json.
    files: from the encoder's numbers and the longest sequence to more JSON files, by their paths in the folder.
    """

    architecture: str
    names: list[Rename]
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Callable[[EncoderConfig, int], Mapping[str, Any]] | None = None


class Task(Protocol[ExampleT]):
    """A task owns its examples, features, head, loss, decoding and metrics.

    A task is a value: what it learns from the training data (labels, thresholds) makes a new task.
    """

    Options: ClassVar[type[Any]]
    """A dataclass of the task's own options (columns, windows)."""

    compares_rows: ClassVar[bool]
    """Whether the loss compares a batch's rows with each other, so that a batch cannot be shared among processes."""

    @property
    def name(self) -> str:
        """The name it goes by on the command line."""
        ...

    @property
    def options(self) -> Any:
        """An instance of `Options`."""
        ...

    @property
    def defaults(self) -> Defaults:
        """Hyper-parameters that fit the task."""
        ...

    @property
    def metric(self) -> str:
        """The metric that picks the best model; larger is better, but for errors (`lower_is_better`)."""
        ...

    def least_batch_size(self) -> int:
        """Examples that must be computed together for the loss to teach anything."""
        ...

    def read(self, path: Path, *, labelled: bool) -> Iterator[ExampleT]:
        """Examples from a file, in order. Raises `InputError` naming line, column and value."""
        ...

    def example(self, item: Any) -> ExampleT:
        """An example from what a Python caller hands to `predict`."""
        ...

    def fit(self, examples: Sequence[ExampleT], *, path: Path, settings: Mapping[str, Any]) -> "Task[ExampleT]":
        """The task with what the training data teaches (its labels); `settings`: the starting checkpoint's config."""
        ...

    def problems(self, examples: Sequence[ExampleT], path: Path) -> list[str]:
        """What is wrong with these examples for the task as learnt (a label that training never saw)."""
        ...

    def featurize(
        self, examples: Sequence[ExampleT], tokenizer: Tokenizer, max_seq_length: int, *, purpose: Purpose
    ) -> Features:
        """Tokenized sequences, with targets unless they are to be predicted."""
        ...

    def feature_key(self) -> Mapping[str, Any] | None:
        """All of the task that `featurize` depends on, so that features are found again; None: they are never kept."""
        ...

    def new_head(self, config: EncoderConfig) -> "nn.Module":
        """A head with new weights; it follows the `Head` protocol."""
        ...

    def loss(self, logits: "Tensor", targets: Mapping[str, "Tensor"], layout: "Layout") -> tuple["Tensor", "Tensor"]:
        """The sum of losses and the count to divide it by.

        Shape: logits as the head gives them; targets (sequences, …) or (tokens,) each → two scalars.
        """
        ...

    def decode(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> list[Prediction]:
        """One prediction an example, in order."""
        ...

    def summary(self, example: ExampleT, prediction: Prediction) -> tuple[str, str, str]:
        """Input, answer and score of one prediction, short, for a table."""
        ...

    def metrics(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> dict[str, float]:
        """How good the predictions are; keys as in the design's list of metrics."""
        ...

    def metric_settings(self, examples: Sequence[ExampleT]) -> Mapping[str, str]:
        """What the metrics of these examples depend on besides answers, such as whose rules compare them, by name."""
        ...

    def row_metrics(self, examples: Sequence[ExampleT], predictions: Sequence[Prediction]) -> RowMetrics | None:
        """Numbers of every row from which metrics of any choice of rows follow; None where only `metrics` can tell."""
        ...

    def diagnostics(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> Mapping[str, Any]:
        """Figures for a report that only this kind of task has, as JSON values by name; empty where there are none."""
        ...

    def averaging(self) -> str:
        """What f1, precision and recall are of, for people: "macro average", "of 'yes'"; empty: their names say it."""
        ...

    def baselines(self) -> Mapping[str, Baseline]:
        """Simple methods, by name, whose answers a model must beat to have learnt something."""
        ...

    def true_answer(self, example: ExampleT) -> Any:
        """The true answer that an example has; None where it has none of a known kind."""
        ...

    def evidence(self, logits: "Tensor", label: str | None) -> "Tensor":
        """How much the head's output speaks for a label, to explain it; InputError where nothing can be explained.

        Shape: logits as the head gives them → (sequences,).
        """
        ...

    def predicted_answer(self, prediction: Prediction) -> str | int | float | frozenset[Any] | None:
        """The part of a prediction that is compared with `true_answer`; None where there is none."""
        ...

    def tuned(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> "Task[ExampleT]":
        """The task with what validation data teaches (thresholds); `metrics` are then the tuned task's."""
        ...

    def calibration_rows(
        self, logits: Logits, features: Features, examples: Sequence[ExampleT]
    ) -> CalibrationRows | None:
        """What temperatures are fitted to; None where a linear head's logits are not what probabilities come from."""
        ...

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """Whether the head of a checkpoint with this config, of the right shape, is one for this very task."""
        ...

    def huggingface(self) -> HuggingFaceHead:
        """How the head is kept in a Hugging Face folder."""
        ...

    def with_options(self, options: Any) -> "Task[ExampleT]":
        """The same task, all it learnt included, under other options (a file's own column names)."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Name, options and what was learnt, for `restored`."""
        ...

    def restored(self, state: Mapping[str, Any]) -> "Task[ExampleT]":
        """A new task of this name and options with what `to_json` kept of its learning."""
        ...


@runtime_checkable
class FillsMasks(Protocol):
    """A task whose predictions are words for the masks of a text."""

    def candidates(self, text: str, prediction: Prediction) -> list[Prediction]:
        """A prediction as one flat list: `{"mask", "token", "score", "text"}` for every word of every mask."""
        ...


def metric_in_words(task: Task[Any], metric: str) -> str:
    """A metric's name for people: `f1 (macro average)`."""
    averaging = task.averaging() if metric in ("f1", "precision", "recall") else ""
    return f"{metric} ({averaging})" if averaging else metric


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error, by its name: a loss, rmse, mae."""
    return "/" not in metric and (metric.endswith("loss") or metric in ("rmse", "mae"))
