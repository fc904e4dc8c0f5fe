"""Names of tasks: what they mean, which options go with them and where the task lives.

Like `tasks.options`, this imports nothing that computes: a command line is read before torch is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertune.errors import InputError
from bertune.tasks import options


@dataclass(frozen=True)
class Known:
    """A task of bertune's own.

    options: its dataclass of options, which it has as `Options`.
    home: `module:attribute`; what stands there is called with the name and the options.
    """

    options: type[Any]
    home: str


_REGRESSION = Known(options.RegressionOptions, "bertune.tasks.regression:Regression")
_GLUE = Known(options.GlueOptions, "bertune.tasks.glue:GLUE")
TASKS = {
    "text-classification": Known(options.TextOptions, "bertune.tasks.text_classification:TextClassification"),
    "question-answering": Known(options.QuestionOptions, "bertune.tasks.question_answering:QuestionAnswering"),
    "pretraining": Known(options.PretrainingOptions, "bertune.tasks.pretraining:Pretraining"),
    "token-classification": Known(options.TokenOptions, "bertune.tasks.token_classification:TokenClassification"),
    "multiple-choice": Known(options.ChoiceOptions, "bertune.tasks.multiple_choice:MultipleChoice"),
    "multi-label-classification": Known(
        options.MultiLabelOptions, "bertune.tasks.multi_label:MultiLabelClassification"
    ),
    **dict.fromkeys(("regression", "stsb"), _REGRESSION),
    "embedding": Known(options.EmbeddingOptions, "bertune.tasks.embedding:Embedding"),
    **dict.fromkeys(("mrpc", "cola", "sst2", "rte", "mnli", "qnli", "qqp", "wnli", "xnli"), _GLUE),
}
"""What `--task` knows beside users' own files."""


def is_task_file(name: str) -> bool:
    """Whether a task's name is a file's, with or without the class."""
    return ".py:" in name or name.endswith(".py")


def require_task(name: str) -> None:
    """Raises InputError for a name that no task can have."""
    if name not in TASKS and not is_task_file(name):
        raise InputError(f"--task {name}: no such task. Known: {', '.join(TASKS)}, and path/to/file.py:Class")


def options_of(name: str) -> type[Any]:
    """The dataclass of a task's own options; the code of a user's file is run for it.

    Raises:
        InputError: a name that no task has (the known ones are listed), or a file that holds no task.
    """
    require_task(name)
    if name in TASKS:
        return TASKS[name].options
    from bertune.tasks.task import task_kind

    kind: type[Any] = task_kind(name).Options
    return kind


def options_of_model(state: object, trust_task_file: str | Path | None = None) -> type[Any]:
    """The same for the task that a model folder describes (`task.task_to_json`).

    Raises:
        InputError: an unknown task, a task file that was not given or is not the one of the training.
    """
    name = str(state.get("name")) if isinstance(state, Mapping) else ""
    if name in TASKS:
        return TASKS[name].options
    from bertune.tasks.task import kind_from_json

    kind: type[Any] = kind_from_json(state, trust_task_file)[1].Options
    return kind
