"""`bertune train`: from options to a trained model in its run folder."""

import dataclasses
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.checkpoints.names import for_layers, to_ours
from bertune.checkpoints.source import Checkpoint, build_encoder, open_checkpoint
from bertune.data.features import Batch, Features, pack
from bertune.data.rows import file_sha256
from bertune.data.yaml_files import read_yaml, write_yaml
from bertune.errors import InputError, Problems
from bertune.model import Making, evaluate, read_labelled, save_model
from bertune.network import Network
from bertune.precision import choose_device, choose_dtype, fast_float32, prepare_process
from bertune.progress import console, table_of
from bertune.tasks.task import Purpose, Task, new_task, task_kind
from bertune.tokenization import Tokenizer
from bertune.training.layers import layer_rates, prepare_layers
from bertune.training.loop import fit, steps_per_epoch
from bertune.training.optimizer import AdamW, AdamWOptions, Schedule
from bertune.training.options import TrainOptions, holds_run
from bertune.training.parts import Parts, Plan, Progress
from bertune.training.run import RunFolder

logger = logging.getLogger(__name__)

_MAY_DIFFER = {"resume", "output"}
"""Options that a resumed run need not repeat."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to. metrics: as in metrics.json."""

    output: Path
    metrics: dict[str, float]
    steps: int


@dataclass(frozen=True)
class Split:
    """The examples of one file (training, validation) and their features."""

    path: Path
    examples: list[Any]
    features: Features

    def facts(self) -> dict[str, Any]:
        """For the record: file, rows, hash."""
        return {"file": str(self.path), "rows": len(self.examples), "sha256": file_sha256(self.path)}


def train(**options: Any) -> TrainResult:
    """Fine-tune an encoder; the keywords are the options of `bertune train`, the task's own among them.

    Raises:
        InputError: bad options or data; nothing has been written then.
    """
    kind = task_kind(str(options.get("task")))
    own = {field.name for field in dataclasses.fields(kind.Options)}
    known = {field.name for field in dataclasses.fields(TrainOptions)}
    strange = sorted(set(options) - known - own)
    if strange:
        raise InputError(f"train: no option {', '.join(strange)}; known: {', '.join(sorted(known | own))}")
    absent = {"task", "encoder", "train", "output"} - set(options)
    if absent:
        raise InputError(f"train: needs {', '.join(sorted(absent))}")
    texts = {"train", "validation", "output", "encoder"}
    general: dict[str, Any] = {
        name: str(value) if name in texts and value is not None else value
        for name, value in options.items()
        if name in known
    }
    return run(TrainOptions(**general), {name: value for name, value in options.items() if name in own})


def run(options: TrainOptions, task_options: Mapping[str, Any]) -> TrainResult:
    """One training run, from options to the closing table.

    Raises:
        InputError: bad options or data; nothing has been written then.
    """
    task = new_task(options.task, task_options)
    options = with_defaults(options, task)
    output = Path(options.output)
    tree = dataclasses.asdict(dataclasses.replace(options, resume=False)) | dataclasses.asdict(task.options)
    examples = _check(options, task, tree)
    torch.manual_seed(options.seed)
    with open_checkpoint(options.encoder) as checkpoint:
        task, splits = _splits(task, examples, checkpoint, options)
        network = build_network(task, checkpoint)
        prepare_layers(network.encoder, frozen=options.frozen_layers, reinitialized=options.reinitialize_layers)
        session = _Session(task, checkpoint.tokenizer, options, network, splits, tree)
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    prepare_process(device)
    network.to(device)
    network.encoder.embeddings.word.sparse = device.type == "cpu"
    network.encoder.activation_checkpointing = options.activation_checkpointing
    numbers = AdamWOptions(weight_decay=options.weight_decay, max_grad_norm=options.max_grad_norm)
    rates = layer_rates(len(network.encoder.layers), options.layer_decay)
    optimizer = AdamW(network.named_parameters(), numbers, rates)
    network.encoder.set_compute_dtype(dtype)
    if options.metric != task.metric and options.metric not in (given := session.validate()):
        raise InputError(f"--metric {options.metric}: this task gives {', '.join(given)}")

    folder = RunFolder(output, session.save)
    progress = folder.load_checkpoint(optimizer) if options.resume else Progress()
    output.mkdir(parents=True, exist_ok=True)
    write_yaml(output / "run.yaml", tree)
    sequences = len(splits["train"].features.unit_lengths)
    logger.info("training %d sequences on %s in %s", sequences, device, str(dtype).removeprefix("torch."))
    check = session.validate if "validation" in splits else None
    features = splits["train"].features

    def make_batch(rows: npt.NDArray[np.int64], epoch: int) -> Batch:  # noqa: ARG001 (the same in every epoch)
        return pack(features, rows)

    parts = Parts(network, sequences, make_batch, session.loss, optimizer, check, folder)
    with fast_float32(device):
        progress = fit(parts, _plan(options, task, sequences), progress)
    folder.close()
    return _finish(output, options, progress)


def with_defaults(options: TrainOptions, task: Task[Any]) -> TrainOptions:
    """The options with the task's defaults where nothing was said."""
    own = dataclasses.asdict(task.defaults) | {"metric": task.metric}
    return dataclasses.replace(
        options, **{name: value for name, value in own.items() if getattr(options, name) is None}
    )


@dataclass
class _Session:
    """What evaluating and saving need during a run. task: as validation tuned it last."""

    task: Task[Any]
    tokenizer: Tokenizer
    options: TrainOptions
    network: Network
    splits: Mapping[str, Split]
    tree: Mapping[str, Any]

    def loss(self, logits: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """The task's loss on a batch."""
        return self.task.loss(logits, batch.targets, batch.layout)

    def validate(self) -> dict[str, float]:
        """Metrics on the validation split; what it teaches (thresholds) goes into the task."""
        split = self.splits["validation"]
        metrics, self.task = evaluate(self.network, self.task, split.features, split.examples, tune=True)
        return metrics

    def save(self, weights: Mapping[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Write the model folder."""
        making = Making(
            self.options.encoder, {role: split.facts() for role, split in self.splits.items()}, dict(self.tree)
        )
        text = (self.tokenizer, _given(self.options.max_seq_length))
        save_model(Path(self.options.output), (self.network.encoder.config, weights), self.task, text, making, metrics)


def _given(value: int | None) -> int:
    if value is None:
        raise ValueError("an option was read before its default was filled in")
    return value


def _check(options: TrainOptions, task: Task[Any], tree: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Check options, output folder and data files together; return the examples of each file.

    Raises:
        InputError: all problems at once.
    """
    problems = Problems()
    problems.extend(options.problems())
    if options.metric != task.metric and options.validation is None:
        problems.add(f"--metric {options.metric}: picks the best model on validation data; name some with --validation")
    output = Path(options.output)
    if output.exists() and not output.is_dir():
        problems.add(f"--output {output}: is a file; name a folder")
    elif options.resume and not (output / "run.yaml").is_file():
        problems.add(f"--resume: {output} holds no run to go on with; leave --resume away to start one")
    elif options.resume:
        problems.extend(_differences(tree, read_yaml(output / "run.yaml")))
    elif holds_run(output):
        problems.add(f"--output {output}: holds another run; name a new folder, remove it, or go on by --resume")
    examples = {}
    for role, path in (("train", options.train), ("validation", options.validation)):
        if path is not None:
            try:
                examples[role] = read_labelled(task, Path(path))
            except InputError as error:
                problems.add(str(error))
    problems.raise_if_any()
    return examples


def _differences(tree: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    return [
        f"--{name.replace('_', '-')} is {tree.get(name)!r}, but the run to resume has {before.get(name)!r}"
        for name in sorted(set(tree) | set(before))
        if name not in _MAY_DIFFER and tree.get(name) != before.get(name)
    ]


def _splits(
    task: Task[Any], examples: Mapping[str, list[Any]], checkpoint: Checkpoint, options: TrainOptions
) -> tuple[Task[Any], dict[str, Split]]:
    """The task as the training data teaches it, and all features; says how much is cut.

    Raises:
        InputError: all problems at once.
    """
    problems = Problems()
    length, positions = _given(options.max_seq_length), checkpoint.config.max_position_embeddings
    if length > positions:
        problems.add(f"--max-seq-length {length}: {options.encoder} has only {positions} positions")
    paths = {"train": Path(options.train), "validation": Path(options.validation or "")}
    try:
        task = task.learn(examples["train"], path=paths["train"], settings=checkpoint.settings)
        for role, some in examples.items():
            problems.extend(task.problems(some, paths[role]))
    except InputError as error:
        problems.add(str(error))
    problems.raise_if_any()
    splits = {}
    for role, some in examples.items():
        purpose: Purpose = "train" if role == "train" else "evaluate"
        features = task.featurize(some, checkpoint.tokenizer, length, purpose=purpose)
        splits[role] = Split(paths[role], some, features)
        logger.info("%s", describe_cut(paths[role], len(some), features, length))
    return task, splits


def describe_cut(path: Path, rows: int, features: Features, length: int) -> str:
    """One line: how many rows there are and how many lose text to the length limit."""
    cut = int(features.cut.sum())
    share = f"{cut} ({100 * cut / max(1, len(features)):.1f} %) are cut" if cut else "none is cut"
    return f"{path}: {rows} rows; {share} at --max-seq-length {length}"


def build_network(task: Task[Any], checkpoint: Checkpoint) -> Network:
    """Encoder and head; the head's weights are taken over from a checkpoint that has one for this very task.

    Raises:
        InputError: the encoder's tensors are not all there.
    """
    encoder, report = build_encoder(checkpoint)
    head = task.new_head(checkpoint.config)
    logger.info("%s", report)
    names = for_layers(task.huggingface().names, checkpoint.config.num_hidden_layers)
    state, _, _ = to_ours(names, checkpoint.tensors)
    shapes = {name: tensor.shape for name, tensor in head.state_dict().items()}
    fits = {name: tensor.shape for name, tensor in state.items()} == shapes
    if fits and task.keeps_head(checkpoint.settings):
        head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        logger.info("head: taken over from %s", checkpoint.source)
    else:
        logger.info("head: new (%s)", ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()))
    return Network(encoder, head)


def _plan(options: TrainOptions, task: Task[Any], sequences: int) -> Plan:
    batch_size = _given(options.batch_size)
    an_epoch = steps_per_epoch(sequences, batch_size)
    epochs = options.epochs or task.defaults.epochs
    steps = options.max_steps or max(1, math.ceil(an_epoch * epochs))
    rate = options.learning_rate or task.defaults.learning_rate
    return Plan(
        steps=steps,
        batch_size=batch_size,
        accumulation=options.gradient_accumulation,
        seed=options.seed,
        schedule=Schedule(rate, steps, int(steps * options.warmup_ratio)),
        patience=options.patience,
        metric=options.metric if options.validation is not None else None,
    )


def _finish(output: Path, options: TrainOptions, progress: Progress) -> TrainResult:
    """Complete metrics.json with the run's speed, and show the closing table."""
    metrics = dict(progress.best_metrics)
    speed = metrics.pop("examples_per_second", None)
    metrics |= {
        "train_examples_per_second": progress.examples / max(progress.seconds, 1e-9),
        "train_seconds": progress.seconds,
    }
    if speed is not None:
        metrics["eval_examples_per_second"] = speed
    beside = output / "metrics.json.writing"
    beside.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    beside.replace(output / "metrics.json")
    title = f"{output}: the model of step {progress.best_step}"
    if options.validation is not None:
        title += f", best by {options.metric}"
    console.print(table_of(title, metrics))
    return TrainResult(output, metrics, progress.step)
