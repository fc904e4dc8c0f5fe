"""What a task is: everything that differs between fine-tuning programs, and nothing else.

The walk of the data is one way and written once elsewhere:
rows → Example → Features → Batch → encoder → head → logits, loss; logits → Prediction → metrics.
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from bertune.checkpoints.names import Rename
from bertune.data.features import Column, Features
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.tasks.names import TASKS, is_task_file, require_task
from bertune.tokenization.tokenizer import Tokenizer

ExampleT = TypeVar("ExampleT")

Prediction = dict[str, Any]
"""One answer, as a JSON object; its keys are the task's."""

Purpose = Literal["train", "evaluate", "predict"]
"""What features are for: training may leave out examples, prediction has no targets."""

Logits = Sequence[npt.NDArray[np.float32]]
"""What a head said of every sequence: Shape (outputs,) each, or (tokens, outputs) each."""


class Head(Protocol):
    """A small module on the encoder's output."""

    def __call__(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Logits. Shape: (sequences, outputs) or (tokens, outputs), float32."""
        ...


@dataclass(frozen=True)
class Defaults:
    """Hyper-parameters that fit a task when nothing else is said."""

    max_seq_length: int = 128
    batch_size: int = 32
    learning_rate: float = 5e-5
    epochs: float = 3.0


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

    def read(self, path: Path, *, labelled: bool) -> Iterator[ExampleT]:
        """Examples from a file, in order. Raises `InputError` naming line, column and value."""
        ...

    def example(self, item: Any) -> ExampleT:
        """An example from what a Python caller hands to `predict`."""
        ...

    def learn(self, examples: Sequence[ExampleT], *, path: Path, settings: Mapping[str, Any]) -> "Task[ExampleT]":
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

    def new_head(self, config: EncoderConfig) -> nn.Module:
        """A head with new weights; it follows the `Head` protocol."""
        ...

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], layout: Layout) -> tuple[Tensor, Tensor]:
        """The sum of losses and the count to divide it by, both scalars on the device."""
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

    def tuned(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> "Task[ExampleT]":
        """The task with what validation data teaches (thresholds); `metrics` are then the tuned task's."""
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
class OneSequenceEach(Task[Any], Protocol):
    """A task that can say that `featurize` makes one sequence of every example, whatever the other examples are."""

    @property
    def one_sequence_each(self) -> bool:
        """Whether it does so under the task's options."""
        ...

    def targets(self, examples: Sequence[Any]) -> dict[str, Column]:
        """The targets that `featurize` gives for them."""
        ...


def is_one_sequence_each(task: object) -> TypeGuard[OneSequenceEach]:
    """Whether some examples' features are the same when they are made apart from the others'.

    Not assumed of tasks from a user's file: one that builds on a task of bertune's may featurize otherwise.
    """
    from bertune.tasks.task_files import task_file_of

    return isinstance(task, OneSequenceEach) and task_file_of(task) is None and task.one_sequence_each


def task_kind(name: str) -> Any:
    """What makes the tasks of a name: a class or the like, with `Options`.

    Args:
        name: a known one, or `path/to/file.py:Class`, whose code is run.

    Raises:
        InputError: a name that no task has (the known ones are listed), or a file that holds no task.
    """
    return _named_kind(name)[1]


def _named_kind(name: str, sha256: str | None = None) -> tuple[str, Any]:
    """The name that a task keeps, and what makes it."""
    from bertune.tasks.task_files import class_in_file

    require_task(name)
    if is_task_file(name):
        return class_in_file(name, sha256=sha256)
    module, attribute = TASKS[name].home.split(":")
    return name, getattr(importlib.import_module(module), attribute)


def new_task(name: str, options: Mapping[str, Any] | None = None) -> Task[Any]:
    """A task by name (or `path/to/file.py:Class`), with the options that differ from its defaults.

    Raises:
        InputError: an unknown name or option, a file that holds no task.
    """
    return _made(*_named_kind(name), options)


def _made(name: str, kind: Any, options: Mapping[str, Any] | None) -> Task[Any]:
    known = [field.name for field in dataclasses.fields(kind.Options)]
    strange = [option for option in options or {} if option not in known]
    if strange:
        raise InputError(f"task {name}: no option {', '.join(strange)}; it has: {', '.join(known)}")
    made: Task[Any] = kind(name, kind.Options(**(options or {})))
    return made


def task_to_json(task: Task[Any]) -> dict[str, Any]:
    """What a model folder keeps of a task; of one from a user's file also that file's SHA-256."""
    from bertune.tasks.task_files import task_file_of

    file = task_file_of(task)
    return task.to_json() | ({} if file is None else {"file_sha256": file.sha256})


def kind_from_json(state: object, trust_task_file: str | Path | None = None) -> tuple[str, Any]:
    """The name of a model's task and what makes it; code of a user's file runs only when that file is given here.

    Raises:
        InputError: an unknown task, a task file that was not given or is not the one of the training.
    """
    if not isinstance(state, Mapping):
        raise InputError(f"bertune.json: its task is {str(state)[:40]!r}, not as bertune wrote it")
    name = str(state.get("name"))
    if not is_task_file(name):
        return _named_kind(name)
    sha256 = state.get("file_sha256")
    if trust_task_file is None:
        raise InputError(
            f"this model's task is {name}, from a file whose code must run to use it (SHA-256 {sha256}). "
            "If you trust that file: --trust-task-file FILE, in Python bertune.load(folder, trust_task_file=FILE)"
        )
    attribute = name.rpartition(":")[2]
    if Path(trust_task_file).suffix != ".py":
        raise InputError(f"--trust-task-file {trust_task_file}: expected the Python file of the task {name}")
    _, kind = _named_kind(f"{trust_task_file}:{attribute}", None if sha256 is None else str(sha256))
    return name, kind


def task_from_json(state: Mapping[str, Any], trust_task_file: str | Path | None = None) -> Task[Any]:
    """The task that a model folder describes (`task_to_json`).

    Args:
        state: what the folder says.
        trust_task_file: the user's file that holds the task, if it came from one; its code is run.

    Raises:
        InputError: an unknown task name or option, a task file that was not given or is another one.
    """
    restored: Task[Any] = _made(*kind_from_json(state, trust_task_file), state.get("options")).restored(state)
    return restored


def lower_is_better(metric: str) -> bool:
    """Whether a metric is an error, by its name: a loss, rmse, mae."""
    return metric.endswith("loss") or metric in ("rmse", "mae")
