"""A distillation from options to a student: the teacher answers once, the student learns, both are compared."""

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from bertune.checkpoints.source import open_checkpoint
from bertune.data.rows import file_sha256
from bertune.distill.batches import DistillationBatches, distillation_loss
from bertune.distill.losses import ON_TOKENS, SOFT_LOSSES
from bertune.distill.options import DistillOptions
from bertune.distill.student import every, layers_of, network_from_source, network_of_layers
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.evaluation.compare import CompareSettings, compare
from bertune.inference.evaluation import infer
from bertune.inference.network import Network
from bertune.model.pairs import check_pairs, trained_on_pairs
from bertune.model.provenance import encoder_sha256
from bertune.model.use import Model, load
from bertune.progress import progress_bar
from bertune.tables import plain_table
from bertune.tasks.labelled import read_labelled
from bertune.tasks.protocol import Logits, Task
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.fine_tune import FineTuning, TrainResult, fine_tune
from bertune.training.options import TrainOptions
from bertune.training.prepare import PreparedData, Split
from bertune.training.run_folder.errors import run_errors
from bertune.training.run_folder.output import output_problems
from bertune.training.train import with_defaults

logger = logging.getLogger(__name__)

LABELS_ONLY = "labels-only"
"""The folder, in the output, of the student that learnt from labels alone."""


@dataclass(frozen=True)
class Student:
    """Where a student starts. source: for the record.  sha256: of the encoder that it starts from."""

    source: str
    tokenizer: Tokenizer
    positions: int
    sha256: str
    new_network: Callable[[], Network]


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

    def table(self) -> Table:
        """Teacher and students, one a row."""
        metric = self.comparison["metric"]
        rows = []
        for run in self.comparison["runs"]:
            facts = self.models[run["run"]]
            interval = f"{run['low']:.3f} to {run['high']:.3f}"
            rows.append(
                (_name(run["run"], self.output), f"{run['value']:.4f}", interval, f"{facts['agreement']:.1%}",
                 f"{facts['layers']:.0f}", f"{facts['weights'] / 1e6:.1f} M", f"{facts['rows_per_second']:.0f}")
            )  # fmt: skip
        heads = ("", metric, "95 % interval", "agrees", "layers", "weights", "rows/s")
        return plain_table(f"on {self.comparison['rows']} rows of {self.comparison['data']}", heads, rows)

    def verdict(self) -> str:
        """Whether distilling helped, in words; empty where no student learnt from labels alone."""
        values = {_name(run["run"], self.output): run["value"] for run in self.comparison["runs"]}
        if "labels only" not in values:
            return ""
        from bertune.tasks.protocol import lower_is_better

        gain = values["student"] - values["labels only"]
        gain = -gain if lower_is_better(self.comparison["metric"]) else gain
        pair = self.comparison["pairs"][-1]
        if gain <= 0:
            return f"distilling did not help: {gain:+.4f} {self.comparison['metric']} against the labels alone"
        sure = "" if not pair["low"] <= 0 <= pair["high"] else "; the difference may be chance"
        return f"distilling brought {gain:+.4f} {self.comparison['metric']} against the labels alone{sure}"


def _name(run: str, output: Path) -> str:
    return {str(output): "student", str(output / LABELS_ONLY): "labels only"}.get(run, "teacher")


def distill(**options: Any) -> DistillResult:
    """Train a small model from a large one; the keywords are the options of `bertune distill`.

    Raises:
        InputError: bad options or data; nothing has been written then.
    """
    from bertune.option_values import checked_values
    from bertune.options import keyword_problems

    known = {field.name for field in dataclasses.fields(DistillOptions)}
    keyword_problems("distill", options, known, ("teacher", "student", "unlabelled", "validation", "output"))
    if isinstance(options.get("teacher"), str | Path):
        options["teacher"] = [options["teacher"]]
    options["teacher"] = [str(one) for one in options["teacher"]]
    texts = {"student", "unlabelled", "train", "validation", "output"}
    plain = {name: str(value) if name in texts and value is not None else value for name, value in options.items()}
    return run(DistillOptions(**checked_values(DistillOptions, plain)))


def run(options: DistillOptions) -> DistillResult:
    """A whole distillation.

    Raises:
        InputError: bad options, data or teachers; nothing has been written then.
        FaultError: disk or memory gave out.
        Interrupted: by a signal; `resume` goes on.
    """
    output = Path(options.output)
    with run_errors(output, "distill", complete=False):
        problems = Problems()
        problems.extend(options.problems())
        problems.raise_if_any()
        teachers = _teachers(options)
        student = _student(options, teachers[0])
        task = teachers[0].task
        kind = _kind(options, task, teachers[0], student)
        length = options.max_seq_length or min(teachers[0].max_seq_length, student.positions)
        data, batches, labelled = _prepared(options, teachers, student, length, kind)
        train_options = _train_options(options, task, student, length)
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
        trained = fine_tune(
            FineTuning(data, train_options, student.new_network, loss, batches=lambda device: batches)  # noqa: ARG005
        )
        folders = [*options.teacher[:1], str(output)]
        if labelled is not None and options.baseline:
            _labels_only(labelled, train_options, student)
            folders.insert(1, str(output / LABELS_ONLY))
        return _compared(options, output, trained, folders)


def _teachers(options: DistillOptions) -> list[Model]:
    """The teachers, which must be for the same task and labels."""
    models = [
        load(folder, device=options.device, precision=options.precision, trust_task_file=options.trust_task_file)
        for folder in options.teacher
    ]
    first, problems = models[0].task, Problems()
    for folder, model in zip(options.teacher[1:], models[1:], strict=True):
        if model.task.name != first.name:
            problems.add(f"--teacher {folder}: is a model for {model.task.name}, {options.teacher[0]} for {first.name}")
        elif (ours := getattr(model.task, "labels", ())) != (theirs := getattr(first, "labels", ())):
            problems.add(
                f"--teacher {folder}: its labels are {', '.join(ours)}; those of {options.teacher[0]}: "
                f"{', '.join(theirs)}"
            )
    problems.raise_if_any()
    return models


def _student(options: DistillOptions, teacher: Model) -> Student:
    """Where the student starts. Raises InputError: it cannot be read, or has not so many layers."""
    step = every(options.student)
    if step is not None:
        layers = layers_of(teacher, step)
        config = teacher.network.encoder.config
        sha256 = file_sha256(Path(options.teacher[0]) / "model.safetensors")
        return Student(
            f"{options.student} of {options.teacher[0]}", teacher.tokenizer, config.max_position_embeddings, sha256,
            lambda: network_of_layers(teacher, layers),
        )  # fmt: skip
    with open_checkpoint(options.student) as checkpoint:
        return Student(
            options.student,
            checkpoint.tokenizer,
            checkpoint.config.max_position_embeddings,
            encoder_sha256(checkpoint.config, checkpoint.tensors, checkpoint.tokenizer),
            lambda: network_from_source(teacher.task, options.student),
        )


def _kind(options: DistillOptions, task: Task[Any], teacher: Model, student: Student) -> str:
    """What the task's logits stand for.

    Raises:
        InputError: the task does not say; or token logits where teacher and student read other pieces.
    """
    kind = getattr(task, "logit_kind", None)
    if kind not in SOFT_LOSSES:
        raise InputError(
            f"--teacher {options.teacher[0]}: its task {task.name} does not say what its logits stand for; a task's "
            f"class names it as logit_kind: {', '.join(SOFT_LOSSES)}"
        )
    if kind in ON_TOKENS and teacher.tokenizer.fingerprint != student.tokenizer.fingerprint:
        raise InputError(
            f"--student {options.student}: reads other pieces than the teacher, whose answers belong to single pieces; "
            "use every:K, or a student with the teacher's vocabulary"
        )
    if kind == "vector":
        width = student.new_network().encoder.config.hidden_size
        if width != (wide := teacher.network.encoder.config.hidden_size):
            raise InputError(
                f"--student {options.student}: its vectors have {width} numbers, the teacher's {wide}; they cannot be "
                "compared (use every:K, or a student as wide as the teacher)"
            )
    return str(kind)


def _prepared(
    options: DistillOptions, teachers: Sequence[Model], student: Student, length: int, kind: str
) -> tuple[PreparedData, DistillationBatches, PreparedData | None]:
    """Data of the distilled student, its batches, and the data of the student that learns from labels alone."""
    task, problems = teachers[0].task, Problems()
    labelled: list[Any] = []
    paths = {"unlabelled": Path(options.unlabelled), "validation": Path(options.validation)}
    unlabelled = list(task.read(paths["unlabelled"], labelled=False))
    validation = read_labelled(task, paths["validation"])
    problems.extend(task.problems(validation, paths["validation"]))
    if options.train is not None:
        labelled = read_labelled(task, Path(options.train))
        problems.extend(task.problems(labelled, Path(options.train)))
    if not unlabelled:
        problems.add(f"--unlabelled {options.unlabelled}: holds no rows")
    problems.raise_if_any()
    rows = [*labelled, *unlabelled]

    def tokenized(examples: Sequence[Any], purpose: Any) -> Any:
        return task.featurize(examples, student.tokenizer, length, purpose=purpose)

    features = tokenized(rows, "predict")
    known = tokenized(labelled, "evaluate") if labelled else None
    logits = _answers(teachers, task, rows, length, kind)
    if [len(one) for one in logits] != features.input_ids.lengths.tolist() and kind in ON_TOKENS:
        raise InputError("teacher and student cut the texts at other places; give --max-seq-length the teacher's")
    targets = known.targets if known is not None and kind != "vector" else {}
    batches = DistillationBatches(kind, features, logits, targets)
    hashes = {name: file_sha256(path) for name, path in paths.items()}
    judged = Split(paths["validation"], validation, tokenized(validation, "evaluate"), hashes["validation"])
    facts = dataclasses.asdict(task.options) | {
        "teacher": list(options.teacher),
        "teacher_sha256": [file_sha256(Path(one) / "model.safetensors") for one in options.teacher],
        "student": options.student,
        "unlabelled": options.unlabelled,
        "temperature": options.temperature,
        "alpha": options.alpha,
    }
    whole = Split(paths["unlabelled"], rows, features, hashes["unlabelled"])
    splits = {"train": whole, "validation": judged}
    data = PreparedData(task, facts, student.tokenizer, length, splits, student.sha256)
    if options.train is None or known is None:
        return data, batches, None
    path = Path(options.train)
    own = Split(path, labelled, tokenized(labelled, "train"), file_sha256(path))
    return (
        data,
        batches,
        dataclasses.replace(
            data, task_options=dataclasses.asdict(task.options), splits={"train": own, "validation": judged}
        ),
    )


def _answers(teachers: Sequence[Model], task: Task[Any], rows: Sequence[Any], length: int, kind: str) -> Logits:
    """The mean of the teachers' logits for every sequence, computed once."""
    total: Logits = []
    for model in teachers:
        own = min(model.max_seq_length, length) if kind in ON_TOKENS else model.max_seq_length
        check_pairs(trained_on_pairs(model.record), rows)
        features = task.featurize(rows, model.tokenizer, own, purpose="predict")
        with progress_bar("teacher", len(features)) as bar, fast_float32(model.network.device):
            found = infer(model.network, features, advance=bar.advance).logits
        if total and [one.shape for one in total] != [one.shape for one in found]:
            raise InputError("the teachers cut or read the texts differently; their answers cannot be averaged")
        total = found if not total else [a + b for a, b in zip(total, found, strict=True)]
    return [(one / len(teachers)).astype(np.float32) for one in total]


def _train_options(options: DistillOptions, task: Task[Any], student: Student, length: int) -> TrainOptions:
    names = {field.name for field in dataclasses.fields(TrainOptions)}
    given = {name: value for name, value in vars(options).items() if name in names}
    given |= {"task": task.name, "encoder": student.source, "train": options.unlabelled, "max_seq_length": length}
    return with_defaults(TrainOptions(**given), task)


def _labels_only(data: PreparedData, options: TrainOptions, student: Student) -> None:
    """Train the same student on the labels alone, with as many updates as the distilled one had at most."""
    folder = Path(options.output) / LABELS_ONLY
    changed = dataclasses.replace(
        options, output=str(folder), train=str(data.train.path), resume=(folder / "run.yaml").is_file()
    )
    fine_tune(FineTuning(data, changed, student.new_network))


def _compared(options: DistillOptions, output: Path, trained: TrainResult, folders: list[str]) -> DistillResult:
    """Teacher and students on the validation rows."""
    how = CompareSettings(metric=options.metric, precision=options.precision, device=options.device,
              trust_task_file=options.trust_task_file)  # fmt: skip
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
            "agreement": float(np.mean([_same(a, b) for a, b in zip(answers, first, strict=True)])),
        }
    return DistillResult(output, trained, comparison, models)


def _same(one: Any, other: Any) -> bool:
    """Whether two answers agree; numbers within a hundredth."""
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 0.01 * max(1.0, abs(other))
    return bool(one == other)
