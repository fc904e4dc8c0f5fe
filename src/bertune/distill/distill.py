"""A distillation from options to a student: the teacher answers once, the student learns, both are compared."""

import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bertune.argument_names import python_call
from bertune.checkpoints.source import open_checkpoint
from bertune.data.rows import file_sha256
from bertune.distill.batches import DistillationBatches, distillation_loss
from bertune.distill.losses import ON_TOKENS
from bertune.distill.options import DistillOptions
from bertune.distill.student import every, layers_of, network_from_source, network_of_layers
from bertune.distill.teachers import Models, ScoreColumn, Teacher, kind_of
from bertune.errors import InputError, Problems
from bertune.evaluation.compare import CompareSettings, compare
from bertune.model.provenance import encoder_sha256
from bertune.model.use import load
from bertune.network import Network
from bertune.tables import PlainTable, plain_table
from bertune.tasks.labelled import Labelled, read_labelled
from bertune.tasks.options import FIRST_TOKEN, PAIR
from bertune.tasks.protocol import Task, lower_is_better
from bertune.tasks.registry import options_of
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.fine_tune import FineTuning, fine_tune
from bertune.training.options import TrainOptions
from bertune.training.prepare import PreparedData, Split
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import run_errors
from bertune.training.run_folder.output import drops_by_example, output_problems
from bertune.training.train import with_defaults

logger = logging.getLogger(__name__)

LABELS_ONLY = "labels-only"
"""The folder, in the output, of the student that learnt from labels alone."""


@dataclass(frozen=True)
class Student:
    """Where a student starts. source: for the record.  sha256: of the encoder that it starts from.

    segments: that its encoder tells texts apart by.
    """

    source: str
    tokenizer: Tokenizer
    positions: int
    segments: int
    sha256: str
    new_network: Callable[[Task[Any]], Network]


@dataclass(frozen=True)
class DistillResult:
    """What a distillation came to.

    comparison: as `evaluation.compare.compare` gives it, of teacher, student from labels (where there is one), student.
    models: by folder: layers, weights, rows/s and how often it answers as the teacher does.
    """

    output: Path
    trained: TrainResult
    comparison: Mapping[str, Any]
    models: Mapping[str, Mapping[str, float]]

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "output": str(self.output),
            "steps": self.trained.steps,
            **self.trained.metrics,
            "comparison": dict(self.comparison),
            "models": {name: dict(facts) for name, facts in self.models.items()},
        }

    def table(self) -> PlainTable:
        """Teacher and students, one a row."""
        metric = self.comparison["metric"]
        rows = []
        for run in self.comparison["runs"]:
            facts = self.models[run["run"]]
            interval = f"{run['low']:.3f} to {run['high']:.3f}"
            agreement = f"{facts['agreement']:.1%}" if "agreement" in facts else ""
            rows.append(
                (_name(run["run"], self.output), f"{run['value']:.4f}", interval, agreement,
                 f"{facts['layers']:.0f}", f"{facts['weights'] / 1e6:.1f} M", f"{facts['rows_per_second']:.0f}")
            )  # fmt: skip
        heads = ("", metric, "95 % interval", "agrees", "layers", "weights", "rows/s")
        return plain_table(f"on {self.comparison['rows']} rows of {self.comparison['data']}", heads, rows)

    def verdict(self) -> str:
        """Whether distilling helped, in words; empty where no student learnt from labels alone."""
        values = {_name(run["run"], self.output): run["value"] for run in self.comparison["runs"]}
        if "labels only" not in values:
            return ""
        gain = values["student"] - values["labels only"]
        gain = -gain if lower_is_better(self.comparison["metric"]) else gain
        pair = self.comparison["pairs"][-1]
        if gain <= 0:
            return f"distilling did not help: {gain:+.4f} {self.comparison['metric']} against the labels alone"
        sure = "" if not pair["low"] <= 0 <= pair["high"] else "; the difference may be chance"
        return f"distilling brought {gain:+.4f} {self.comparison['metric']} against the labels alone{sure}"


def _name(run: str, output: Path) -> str:
    return {str(output): "student", str(output / LABELS_ONLY): "labels only"}.get(run, "teacher")


@python_call
def distill(**options: Any) -> DistillResult:
    """Train a small model from a large one; the keywords are the options of `bertune distill`.

    Raises:
        InputError: bad options or data; nothing has been written then.
    """
    from bertune.option_values import checked_values
    from bertune.options import keyword_problems

    known = {field.name for field in dataclasses.fields(DistillOptions)}
    own = {field.name for field in dataclasses.fields(options_of(str(options["task"])))} if "task" in options else set()
    keyword_problems("distill", options, known | own, ("student", "unlabelled", "validation", "output"))
    if isinstance(options.get("teacher"), str | Path):
        options["teacher"] = [options["teacher"]]
    paths = {"teacher", "student", "unlabelled", "train", "validation", "output"}
    plain = {name: _as_text(value) if name in paths else value for name, value in options.items() if name in known}
    return run(
        DistillOptions(**checked_values(DistillOptions, plain)),
        {name: value for name, value in options.items() if name in own},
    )


def _as_text(value: Any) -> Any:
    """Paths as text."""
    if isinstance(value, list | tuple):
        return [str(one) for one in value]
    return str(value) if isinstance(value, Path) else value


def run(options: DistillOptions, task_options: Mapping[str, Any] | None = None) -> DistillResult:
    """A whole distillation.

    Args:
        options: of it.
        task_options: the task's own, with --scores; a teacher has its own.

    Raises:
        InputError: bad options, data or teachers; nothing has been written then.
        FaultError: disk or memory gave out.
        Interrupted: by a signal; `resume` goes on.
    """
    output, task_options = Path(options.output), task_options or {}
    with run_errors(output, "distill", complete=False):
        problems = Problems()
        problems.extend(options.problems())
        problems.raise_if_any()
        teacher: Teacher = Models.of(options) if options.scores is None else ScoreColumn.of(options, task_options)
        student = _student(options, teacher)
        if (wanted := options.max_seq_length or 0) > student.positions:
            raise InputError(
                f"--max-seq-length {wanted}: --student {options.student} has only {student.positions} positions"
            )
        kind = kind_of(teacher.task, f"--teacher {(options.teacher or [''])[0]}")
        if isinstance(teacher, Models):
            _check_student(options, teacher, student, kind)
        rows, task = _read(options, teacher)
        task = _with_head_for(student, task)
        data, batches, labelled = _prepared(options, teacher, task, rows, student)
        train_options = _train_options(options, task, student, data.max_seq_length)
        tree = dataclasses.asdict(dataclasses.replace(train_options, resume=False)) | dict(data.task_options)
        problems.extend(train_options.problems())
        problems.extend(output_problems(output, tree, resume=options.resume))
        problems.raise_if_any()
        loss = distillation_loss(
            kind,
            lambda logits, targets, batch: task.loss(logits, targets, batch.layout),
            list(batches.targets),
            options.alpha,
            options.temperature,
        )
        new_network = functools.partial(student.new_network, task)
        trained = fine_tune(FineTuning(data, train_options, new_network, loss, batches=lambda device: batches))  # noqa: ARG005
        folders = [*(options.teacher or ())[:1], str(output)]
        if labelled is not None and options.baseline:
            _labels_only(labelled, train_options, new_network)
            folders.insert(len(folders) - 1, str(output / LABELS_ONLY))
        return _compared(options, output, trained, folders)


def _student(options: DistillOptions, teacher: Teacher) -> Student:
    """Where the student starts. Raises InputError: it cannot be read, or has not so many layers."""
    step = every(options.student)
    if step is not None and isinstance(teacher, Models):
        model, folder = teacher.models[0], teacher.folders[0]
        layers = layers_of(model, step)
        return Student(
            f"{options.student} of {folder}",
            model.tokenizer,
            model.network.encoder.config.max_position_embeddings,
            model.network.encoder.config.type_vocab_size,
            file_sha256(Path(folder) / "model.safetensors"),
            lambda task: network_of_layers(model, layers),  # noqa: ARG005
        )
    with open_checkpoint(options.student) as checkpoint:
        return Student(
            options.student,
            checkpoint.tokenizer,
            checkpoint.config.max_position_embeddings,
            checkpoint.config.type_vocab_size,
            encoder_sha256(checkpoint.config, checkpoint.tensors, checkpoint.tokenizer),
            lambda task: network_from_source(task, options.student),
        )


def _with_head_for(student: Student, task: Task[Any]) -> Task[Any]:
    """The task, with a head that the student can have: one that compares two texts needs segments."""
    if getattr(task.options, "pooling", None) != PAIR or student.segments > 1:
        return task
    logger.info("the student's head reads the first token (--pooling %s): its encoder has no segments", FIRST_TOKEN)
    changed: Task[Any] = dataclasses.replace(
        task,
        options=dataclasses.replace(task.options, pooling=FIRST_TOKEN),  # type: ignore[type-var]
    )
    return changed


def _check_student(options: DistillOptions, teacher: Models, student: Student, kind: str) -> None:
    """Raises InputError: token logits where teacher and student read other pieces; vectors of another width."""
    model = teacher.models[0]
    if kind in ON_TOKENS and model.tokenizer.fingerprint != student.tokenizer.fingerprint:
        raise InputError(
            f"--student {options.student}: reads other pieces than the teacher, whose answers belong to single pieces; "
            "use every:K, or a student with the teacher's vocabulary"
        )
    if kind == "vector":
        width = student.new_network(model.task).encoder.config.hidden_size
        if width != (wide := model.network.encoder.config.hidden_size):
            raise InputError(
                f"--student {options.student}: its vectors have {width} numbers, the teacher's {wide}; they cannot be "
                "compared (use every:K, or a student as wide as the teacher)"
            )


@dataclass(frozen=True)
class _Rows:
    """What was read. labelled: None where no labels are known."""

    labelled: Labelled | None
    unlabelled: Labelled
    validation: Labelled


def _read(options: DistillOptions, teacher: Teacher) -> tuple[_Rows, Task[Any]]:
    """All rows, and the task as learnt. Raises InputError: all problems at once."""
    problems = Problems()
    found: dict[str, Labelled] = {}
    for name in ("unlabelled", "validation", "train"):
        if (named := getattr(options, name)) is not None:
            try:
                found[name] = Labelled.read(teacher.task, named, f"--{name}", labelled=name != "unlabelled")
            except InputError as error:
                problems.add(str(error))
    problems.raise_if_any()
    rows = _Rows(found.get("train"), found["unlabelled"], found["validation"])
    task = teacher.fitted(rows.labelled, rows.validation)
    for labelled in (rows.validation, rows.labelled):
        if labelled is not None:
            problems.extend(labelled.problems(task))
    problems.raise_if_any()
    return rows, task


def _prepared(
    options: DistillOptions, teacher: Teacher, task: Task[Any], rows: _Rows, student: Student
) -> tuple[PreparedData, DistillationBatches, PreparedData | None]:
    """Data of the distilled student, its batches, and the data of the student that learns from labels alone."""
    kind = kind_of(task, "--teacher")
    length = options.max_seq_length or min(teacher.length or task.defaults.max_seq_length, student.positions)
    labelled = [] if rows.labelled is None else rows.labelled.examples
    everything = [*labelled, *rows.unlabelled.examples]

    def tokenized(examples: Sequence[Any], purpose: Any) -> Any:
        return task.featurize(examples, student.tokenizer, length, purpose=purpose)

    features = tokenized(everything, "predict")
    known = tokenized(labelled, "evaluate") if labelled else None
    logits = teacher.answers(task, rows.labelled, rows.unlabelled, features, length)
    targets = known.targets if known is not None and kind != "vector" else {}
    batches = DistillationBatches(kind, features, logits, targets)
    validation = rows.validation
    judged = Split(
        validation.path, validation.examples, tokenized(validation.examples, "evaluate"), validation.source.sha256,
        validation,
    )  # fmt: skip
    facts = dataclasses.asdict(task.options) | {
        **teacher.describe(),
        "student": options.student,
        "unlabelled": options.unlabelled,
        "temperature": options.temperature,
        "alpha": options.alpha,
    }
    whole = Split(rows.unlabelled.path, everything, features, rows.unlabelled.source.sha256)
    splits = {"train": whole, "validation": judged}
    data = PreparedData(task, facts, student.tokenizer, length, splits, student.sha256)
    if rows.labelled is None or known is None:
        return data, batches, None
    source = rows.labelled
    own = Split(source.path, labelled, tokenized(labelled, "train"), source.source.sha256, source)
    return (
        data,
        batches,
        dataclasses.replace(
            data, task_options=dataclasses.asdict(task.options), splits={"train": own, "validation": judged}
        ),
    )


def _train_options(options: DistillOptions, task: Task[Any], student: Student, length: int) -> TrainOptions:
    names = {field.name for field in dataclasses.fields(TrainOptions)}
    given = {name: value for name, value in vars(options).items() if name in names}
    given |= {"task": task.name, "encoder": student.source, "train": options.unlabelled, "max_seq_length": length}
    return with_defaults(TrainOptions(**given), task)


def _labels_only(data: PreparedData, options: TrainOptions, new_network: Callable[[], Network]) -> None:
    """Train the same student on the labels alone, with as many updates as the distilled one had at most."""
    folder = Path(options.output) / LABELS_ONLY
    changed = dataclasses.replace(
        options, output=str(folder), train=str(data.train.path), resume=(folder / "run.yaml").is_file()
    )
    by_example = drops_by_example(Path(options.output), resume=True)  # as the distilled one, which is trained by now
    fine_tune(FineTuning(dataclasses.replace(data, drops_by_example=by_example), changed, new_network))


def _compared(options: DistillOptions, output: Path, trained: TrainResult, folders: list[str]) -> DistillResult:
    """Teacher and students on the validation rows."""
    how = CompareSettings(metric=options.metric, precision=options.precision, device=options.device,
              trust_task_file=options.trust_task_file, fewest=1)  # fmt: skip
    comparison = compare(folders, options.validation, how)
    models: dict[str, dict[str, float]] = {}
    first: list[Any] = []
    for folder in folders:
        model = load(folder, device=options.device, precision=options.precision,
                     trust_task_file=options.trust_task_file)  # fmt: skip
        examples = read_labelled(model.task, Path(options.validation))
        answers = [model.task.predicted_answer(one) for one in model.predict_examples(examples)]
        first = first or answers
        models[folder] = {
            "layers": model.network.encoder.config.num_hidden_layers,
            "weights": sum(weight.numel() for weight in model.network.parameters()),
            "rows_per_second": model.evaluate(options.validation)["examples_per_second"],
        }
        if options.teacher is not None:
            agreement = float(np.mean([_same(a, b) for a, b in zip(answers, first, strict=True)]))
            models[folder]["agreement"] = agreement
    return DistillResult(output, trained, comparison, models)


def _same(one: Any, other: Any) -> bool:
    """Whether two answers agree; numbers within a hundredth."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 0.01 * max(1.0, abs(other))
    return bool(one == other)
