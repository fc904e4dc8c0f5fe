"""Tasks by name: their options, making them, and reading them back from a model folder.

This imports nothing that computes: a command line is read before any task's own module is.
"""

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.errors import InputError
from bertune.option_values import checked_values
from bertune.tasks.hyperparameters import EMBEDDING, MULTIPLE_CHOICE, QUESTION_ANSWERING, USUAL, Defaults

if TYPE_CHECKING:
    from bertune.tasks.protocol import Task


@dataclass(frozen=True)
class TaskEntry:
    """A task of bertune's own.

    kind: name of its dataclass of options in `tasks.options`, which it has as `Options`.
    home: `module:attribute`; what stands there is called with the name and the options.
    defaults, metric: as its tasks have them, for `--help`.
    """

    kind: str
    home: str
    defaults: Defaults = USUAL
    metric: str = "accuracy"

    @property
    def options(self) -> type[Any]:
        """Its dataclass of options. Making those of all tasks takes a fifth of what `train --help` takes."""
        from bertune.tasks import options

        found: type[Any] = getattr(options, self.kind)
        return found


_REGRESSION = TaskEntry("RegressionOptions", "bertune.tasks.regression:Regression", metric="loss")
_GLUE = TaskEntry("GlueOptions", "bertune.tasks.glue:GLUE")
TASKS = {
    "text-classification": TaskEntry("TextOptions", "bertune.tasks.text_classification:TextClassification"),
    "question-answering": TaskEntry(
        "QuestionOptions", "bertune.tasks.question_answering:QuestionAnswering", QUESTION_ANSWERING, "f1"
    ),
    "pretraining": TaskEntry("PretrainingOptions", "bertune.tasks.pretraining:Pretraining", metric="masked_lm_loss"),
    "token-classification": TaskEntry(
        "TokenOptions", "bertune.tasks.token_classification:TokenClassification", metric="f1"
    ),
    "multiple-choice": TaskEntry("ChoiceOptions", "bertune.tasks.multiple_choice:MultipleChoice", MULTIPLE_CHOICE),
    "multi-label-classification": TaskEntry(
        "MultiLabelOptions", "bertune.tasks.multi_label:MultiLabelClassification", metric="f1"
    ),
    "regression": _REGRESSION,
    "stsb": dataclasses.replace(_REGRESSION, metric="pearson"),
    "embedding": TaskEntry("EmbeddingOptions", "bertune.tasks.embedding:Embedding", EMBEDDING),
    **dict.fromkeys(("mrpc", "cola", "sst2", "rte", "mnli", "qnli", "qqp", "wnli", "xnli"), _GLUE),
    "cola": dataclasses.replace(_GLUE, metric="matthews_correlation"),
}
"""What `--task` knows beside users' own files."""


def is_task_file(name: str) -> bool:
    """Whether a task's name is a file's, with or without the class."""
    return ".py:" in name or name.endswith(".py")


def require_task(name: str) -> None:
    """Raises InputError for a name that no task can have."""
    if name not in TASKS and not is_task_file(name):
        near = difflib.get_close_matches(name.lower().replace("_", "-"), TASKS, n=1, cutoff=0.7)
        meant = f"; did you mean {near[0]}?" if near else ""
        known = f"Known: {', '.join(TASKS)}, and path/to/file.py:Class"
        raise InputError(f"--task {name}: no such task{meant or '.'} {known}")


def options_of(name: str) -> type[Any]:
    """The dataclass of a task's own options; the code of a user's file is run for it.

    Raises:
        InputError: a name that no task has (the known ones are listed), or a file that holds no task.
    """
    require_task(name)
    if name in TASKS:
        return TASKS[name].options
    kind: type[Any] = task_kind(name).Options
    return kind


def options_of_model(state: object, trust_task_file: str | Path | None = None) -> type[Any]:
    """The same for the task that a model folder describes (`task_to_json`).

    Raises:
        InputError: an unknown task, a task file that was not given or is not the one of the training.
    """
    name = str(state.get("name")) if isinstance(state, Mapping) else ""
    if name in TASKS:
        return TASKS[name].options
    kind: type[Any] = kind_from_json(state, trust_task_file)[1].Options
    return kind


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
    from bertune.tasks.user_files import class_in_file

    require_task(name)
    if is_task_file(name):
        return class_in_file(name, sha256=sha256)
    module, attribute = TASKS[name].home.split(":")
    return name, getattr(importlib.import_module(module), attribute)


def new_task(name: str, options: Mapping[str, Any] | None = None) -> "Task[Any]":
    """A task by name (or `path/to/file.py:Class`), with the options that differ from its defaults.

    Raises:
        InputError: an unknown name or option, a file that holds no task.
    """
    return _made(*_named_kind(name), options)


def _made(name: str, kind: Any, options: Mapping[str, Any] | None) -> "Task[Any]":
    known = [field.name for field in dataclasses.fields(kind.Options)]
    strange = [option for option in options or {} if option not in known]
    if strange:
        raise InputError(f"task {name}: no option {', '.join(strange)}; it has: {', '.join(known)}")
    made: Task[Any] = kind(name, kind.Options(**checked_values(kind.Options, options or {})))
    return made


def task_to_json(task: "Task[Any]") -> dict[str, Any]:
    """What a model folder keeps of a task; of one from a user's file also that file's SHA-256."""
    from bertune.tasks.user_files import task_file_of

    file = task_file_of(task)
    return task.to_json() | ({} if file is None else {"file_sha256": file.sha256})


def for_a_model(described: Mapping[str, Any], task: "Task[Any]") -> dict[str, Any]:
    """A task's description without the options that say how one file is written: the next file is another."""
    of_file = {field.name for field in dataclasses.fields(task.options) if field.metadata.get("of_file")}
    options = described.get("options")
    if not isinstance(options, Mapping):
        return dict(described)
    kept = {name: value for name, value in options.items() if name not in of_file}
    return {**described, "options": kept}


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


def task_from_json(state: Mapping[str, Any], trust_task_file: str | Path | None = None) -> "Task[Any]":
    """The task that a model folder describes (`task_to_json`).

    Args:
        state: what the folder says.
        trust_task_file: the user's file that holds the task, if it came from one; its code is run.

    Raises:
        InputError: an unknown task name or option, a task file that was not given or is another one.
    """
    restored: Task[Any] = _made(*kind_from_json(state, trust_task_file), state.get("options")).restored(state)
    return restored
