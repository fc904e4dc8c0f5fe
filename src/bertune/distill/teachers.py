"""Where a student's soft labels come from: models that answer every row once, or a column of scores in the data."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from bertune.data.rows import file_sha256
from bertune.distill.losses import ON_TOKENS, SOFT_LOSSES
from bertune.distill.options import DistillOptions
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.features import Features
from bertune.inference.evaluation import infer
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.presence import require_model
from bertune.model.use import Model, load
from bertune.progress import progress_bar
from bertune.tasks.labelled import Labelled, column_of
from bertune.tasks.protocol import Logits, Task
from bertune.tasks.registry import new_task

_LEAST = 1e-6
"""Probabilities are taken to be at least this, and at most one less this: their logarithms stay finite."""


class Teacher(Protocol):
    """What a student learns from."""

    @property
    def task(self) -> Task[Any]:
        """Whose form the data have."""
        ...

    @property
    def length(self) -> int | None:
        """The longest sequence that it reads; None: any."""
        ...

    def fitted(self, labelled: Labelled | None, validation: Labelled) -> Task[Any]:
        """The task that the student is for, as learnt."""
        ...

    def answers(
        self, task: Task[Any], labelled: Labelled | None, unlabelled: Labelled, features: Features, length: int
    ) -> Logits:
        """Logits for every sequence of labelled and unlabelled rows, in that order, computed once.

        Raises:
            InputError: there are none for a row.
        """
        ...

    def describe(self) -> dict[str, Any]:
        """For the record."""
        ...


def kind_of(task: Task[Any], name: str) -> str:
    """What a task's logits stand for.

    Raises:
        InputError: the task does not say. name: of its source, for the message.
    """
    kind = getattr(task, "logit_kind", None)
    if kind not in SOFT_LOSSES:
        raise InputError(
            f"{name}: its task {task.name} does not say what its logits stand for; a task's class names it as "
            f"logit_kind: {', '.join(SOFT_LOSSES)}"
        )
    return str(kind)


@dataclass(frozen=True)
class Models:
    """Models whose logits are averaged. folders: of theirs."""

    folders: tuple[str, ...]
    models: tuple[Model, ...]

    @classmethod
    def of(cls, options: DistillOptions) -> "Models":
        """The teachers, which must be for the same task and labels.

        Raises:
            InputError: they are not, or one cannot be loaded.
        """
        folders = tuple(options.teacher or ())
        for folder in folders:
            require_model(Path(folder), "--teacher")
        models = tuple(
            load(folder, device=options.device, precision=options.precision, trust_task_file=options.trust_task_file)
            for folder in folders
        )
        first, problems = models[0].task, Problems()
        for folder, model in zip(folders[1:], models[1:], strict=True):
            if model.task.name != first.name:
                problems.add(f"--teacher {folder}: is a model for {model.task.name}, {folders[0]} for {first.name}")
            elif (ours := getattr(model.task, "labels", ())) != (theirs := getattr(first, "labels", ())):
                problems.add(
                    f"--teacher {folder}: its labels are {', '.join(ours)}; those of {folders[0]}: {', '.join(theirs)}"
                )
        problems.raise_if_any()
        return cls(folders, models)

    @property
    def task(self) -> Task[Any]:
        """Of all."""
        return self.models[0].task

    @property
    def length(self) -> int | None:
        """Of the first."""
        return self.models[0].max_seq_length

    def fitted(self, labelled: Labelled | None, validation: Labelled) -> Task[Any]:  # noqa: ARG002
        """As the models learnt it."""
        return self.task

    def answers(
        self,
        task: Task[Any],
        labelled: Labelled | None,
        unlabelled: Labelled,
        features: Features,
        length: int,
    ) -> Logits:
        """The mean of the models' logits. Raises InputError: they cut or read the texts differently."""
        rows = [*(labelled.examples if labelled is not None else ()), *unlabelled.examples]
        on_tokens = kind_of(task, self.folders[0]) in ON_TOKENS
        total: Logits = []
        for model in self.models:
            own = min(model.max_seq_length, length) if on_tokens else model.max_seq_length
            check_pairs(trained_on_pairs(model.record), rows)
            read = task.featurize(rows, model.tokenizer, own, purpose="predict")
            with progress_bar("teacher", len(read)) as bar, fast_float32(model.network.device):
                found = infer(model.network, read, advance=bar.advance).logits
            if total and [one.shape for one in total] != [one.shape for one in found]:
                raise InputError("the teachers cut or read the texts differently; their answers cannot be averaged")
            total = found if not total else [a + b for a, b in zip(total, found, strict=True)]
        if on_tokens and [len(one) for one in total] != features.input_ids.lengths.tolist():
            raise InputError("teacher and student cut the texts at other places; give --max-seq-length the teacher's")
        return [(one / len(self.models)).astype(np.float32) for one in total]

    def describe(self) -> dict[str, Any]:
        """Folders and the hashes of their weights."""
        return {
            "teacher": list(self.folders),
            "teacher_sha256": [file_sha256(Path(one) / "model.safetensors") for one in self.folders],
        }


@dataclass(frozen=True)
class ScoreColumn:
    """Scores that stand in a column of the unlabelled rows: of any model, of several people, of rules.

    A cell holds what `bertune predict` writes as `scores`, an object of labels and their probabilities (as JSON text
    in tables), or a number where the task is a regression. Rows with labels are learnt by these.
    """

    column: str
    task: Task[Any]
    length: int | None = None

    @classmethod
    def of(cls, options: DistillOptions, task_options: Mapping[str, Any]) -> "ScoreColumn":
        """As the options name it. Raises InputError: a task that is not known, or has no such scores."""
        task = new_task(str(options.task), task_options)
        if kind_of(task, f"--task {options.task}") not in ("classes", "labels", "number"):
            raise InputError(
                f"--scores {options.scores}: scores of whole rows are for classification, several labels and "
                f"regression, not for {task.name}; name a model with --teacher"
            )
        return cls(str(options.scores), task)

    def fitted(self, labelled: Labelled | None, validation: Labelled) -> Task[Any]:
        """With the labels of --train, or of the validation data."""
        rows = validation if labelled is None else labelled
        return self.task.fit(rows.examples, path=rows.path, settings={})

    def answers(
        self,
        task: Task[Any],
        labelled: Labelled | None,
        unlabelled: Labelled,
        features: Features,
        length: int,  # noqa: ARG002
    ) -> Logits:
        """The scores as logits. Raises InputError: rows whose scores mean nothing, all at once."""
        known = np.zeros((0, 0)) if labelled is None else _of_labels(task, labelled.examples)
        cells, problems = column_of(task, unlabelled, self.column, "--scores"), Problems()
        found = []
        for row, cell in enumerate(cells):
            try:
                found.append(logits_of(task, cell))
            except ValueError as error:
                problems.add(f"{unlabelled.path_of(row)}, row {row + 1}, column {self.column!r}: {error}")
        problems.raise_if_any()
        by_row = np.concatenate([known, found]) if len(known) else np.stack(found)
        return list(by_row[features.example_index].astype(np.float32))

    def describe(self) -> dict[str, Any]:
        """The column."""
        return {"scores": self.column}


def logits_of(task: Task[Any], cell: object) -> npt.NDArray[np.float64]:
    """The logits that stand for a cell's scores. Shape: (outputs,).

    Args:
        task: whose labels they are about.
        cell: a number, a mapping of labels and probabilities, or either as JSON text.

    Raises:
        ValueError: what is wrong with it.
    """
    shown = str(cell)[:60]
    try:
        value = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError:
        raise ValueError(f"{shown!r} is neither a number nor an object of labels and probabilities") from None
    kind = getattr(task, "logit_kind", None)
    if kind == "number":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown} is not a number")
        origin, step = task.unit  # type: ignore[attr-defined]
        return np.array([(value - origin) / step])
    labels = list(task.labels)  # type: ignore[attr-defined]
    if not isinstance(value, Mapping):
        raise ValueError(f"{shown} is not an object of labels and probabilities, like {{{json.dumps(labels[0])}: 0.9}}")
    if strange := sorted(set(value) - set(labels)):
        raise ValueError(f"unknown label {strange[0]!r}; known: {', '.join(map(str, labels))}")
    numbers = [one for one in value.values() if isinstance(one, int | float) and 0 <= one <= 1]
    if len(numbers) < len(value):
        raise ValueError(f"{shown} holds what is not a probability")
    if kind == "labels":
        chances = np.clip([value.get(label, 0.0) for label in labels], _LEAST, 1 - _LEAST)
        odds: npt.NDArray[np.float64] = np.log(chances) - np.log1p(-chances)
        return odds
    total, absent = sum(numbers), len(labels) - len(value)
    if not 0 < total <= 1.01 or (not absent and total < 0.99):
        raise ValueError(f"the probabilities add up to {total:.4g}, not 1")
    rest = max(0.0, 1 - total) / absent if absent else 0.0  # of many labels `predict` writes the best alone
    logs: npt.NDArray[np.float64] = np.log(np.clip([value.get(label, rest) for label in labels], _LEAST, None))
    return logs


def _of_labels(task: Task[Any], examples: Sequence[Any]) -> npt.NDArray[np.float64]:
    """Logits that stand for the rows' own labels. Shape: (rows, outputs)."""
    targets = task.targets(examples)  # type: ignore[attr-defined]
    (column,) = targets.values()
    kind = getattr(task, "logit_kind", None)
    known: npt.NDArray[np.float64] = np.asarray(column, np.float64)
    if kind == "number":
        known = known[:, None]
    elif kind == "labels":
        known = np.where(known > 0, 1.0, -1.0) * -np.log(_LEAST)
    else:
        classes = np.eye(len(task.labels))[np.asarray(column)]  # type: ignore[attr-defined]
        known = np.log(np.clip(classes, _LEAST, None))
    return known
