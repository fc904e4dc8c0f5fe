"""`bertune train`: from options to a trained model in its run folder."""

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bertune.checkpoints.names import for_layers, to_ours
from bertune.checkpoints.source import Checkpoint, build_encoder, open_checkpoint
from bertune.errors import InputError, Problems
from bertune.evaluation.baselines import baselines
from bertune.files.yaml_files import write_yaml
from bertune.hardware import choose_device, choose_dtype, fast_float32, prepare_process
from bertune.inference.network import Network
from bertune.model.facts import RECORD_KEY, facts
from bertune.model.inputs import encoder_sha256
from bertune.model.use import Making, evaluate, save_model
from bertune.progress import console
from bertune.tasks.task import Logits, Task, new_task, task_kind
from bertune.tasks.task_files import task_file_of
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.layers import layer_rates, prepare_layers
from bertune.training.loop.batches import TrainingBatches
from bertune.training.loop.loop import fit, steps_per_epoch
from bertune.training.loop.memory import parts_that_fit
from bertune.training.loop.optimizer import AdamW, AdamWOptions, Schedule
from bertune.training.loop.randomness import seed_all
from bertune.training.loop.state import Parts, Plan
from bertune.training.options import TrainOptions
from bertune.training.rows import name_rows
from bertune.training.run_folder.errors import guarded, writing
from bertune.training.run_folder.folder import RunFolder
from bertune.training.run_folder.output import output_problems
from bertune.training.run_folder.report import closing_table, finished, metrics_of, record_of, write_all
from bertune.training.runs.collapse import chance_loss, collapse_of, constant_answer, late_collapse_of
from bertune.training.runs.restarts import Attempted, run_tries
from bertune.training.runs.seeds import run_seeds
from bertune.training.splits import Labelled, Split, given, make_splits

logger = logging.getLogger(__name__)

_MAY_DIFFER = {"feature_cache", "resume", "output", "checkpoint_every", "keep_checkpoints", RECORD_KEY}
"""Options that a resumed run need not repeat, and what is none."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to. metrics: as in metrics.json.  more: the rest of it: baselines, mean and spread over seeds."""

    output: Path
    metrics: dict[str, float]
    steps: int
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


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
    if isinstance(seeds := options.get("seeds"), list | tuple):
        options["seeds"] = ",".join(map(str, seeds))
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
        FaultError: disk or memory gave out; the last checkpoint, if there is one, is kept.
        Interrupted: by SIGINT or SIGTERM; a checkpoint is kept.
    """
    with guarded(Path(options.output), "train"):
        return _run(options, task_options)


@dataclass
class _Job:
    """What to train, whatever the seed.

    read: by "train" and "validation".
    taught: the task as the data taught it, and features, once they are made.
    further: runs with other seeds that are to follow.
    begin: done before the run's first file is written.
    """

    options: TrainOptions
    task: Task[Any]
    read: Mapping[str, Labelled]
    taught: tuple[Task[Any], dict[str, Split]] | None = None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    further: int = 0
    begin: Callable[[], None] = lambda: None

    @property
    def tree(self) -> dict[str, Any]:
        """All options, for run.yaml."""
        return _tree(self.options, self.task)

    def teach(self, checkpoint: Checkpoint) -> tuple[Task[Any], dict[str, Split]]:
        """The task as the data teaches it, and all features; made once.

        Raises:
            InputError: all problems at once.
        """
        self.taught = self.taught or make_splits(self.task, self.read, checkpoint, self.options)
        return self.taught

    def baselines(self) -> dict[str, dict[str, float]]:
        """What simple methods reach, where that was asked for."""
        if not self.options.baselines:
            return {}
        if self.taught is None:  # nothing was left to train
            with open_checkpoint(self.options.encoder) as checkpoint:
                self.teach(checkpoint)
        assert self.taught is not None
        task, splits = self.taught
        return baselines(task, splits["train"].examples, splits["validation"].examples)


def _tree(options: TrainOptions, task: Task[Any]) -> dict[str, Any]:
    return dataclasses.asdict(dataclasses.replace(options, resume=False)) | dataclasses.asdict(task.options)


def _run(options: TrainOptions, task_options: Mapping[str, Any]) -> TrainResult:
    task = new_task(options.task, task_options)
    options = with_defaults(options, task)
    job = _Job(options, task, _check(options, task, _tree(options, task)))
    return _train(job) if options.seeds is None else _train_seeds(job)


def _train_seeds(job: _Job) -> TrainResult:
    """The run once with each seed, in folders of their own; mean and spread, and the best model on top."""
    options, folder = job.options, Path(job.options.output)

    def begin() -> None:
        with writing(folder, 0):
            folder.mkdir(parents=True, exist_ok=True)
            write_yaml(folder / "run.yaml", job.tree)

    def train_seed(seed: int, own: Path, resume: bool) -> TrainResult:
        changes: dict[str, Any] = {
            "seed": seed,
            "seeds": None,
            "baselines": False,
            "output": str(own),
            "resume": resume,
        }
        further = len(options.seed_list) - 1 - options.seed_list.index(seed)
        own_options = dataclasses.replace(options, **changes)
        result = _train(single := dataclasses.replace(job, options=own_options, further=further, begin=begin))
        job.taught = single.taught
        return result

    seeds = run_seeds(folder, options.seed_list, str(options.metric), train_seed, resume=options.resume)
    metrics = seeds.metrics[seeds.best]
    record = {**seeds.record, "seed": seeds.best, "seeds": list(options.seed_list)}
    spread = {"mean": seeds.mean, "standard_deviation": seeds.deviation}
    more = write_all(folder, metrics, record, spread, job.baselines)
    found = more.get("baselines", {})
    console.print(seeds.table(f"{folder}: the model of seed {seeds.best}, best by {options.metric}", found))
    return TrainResult(folder, metrics, seeds.steps, more)


def _train(job: _Job) -> TrainResult:
    """The run with one seed, and with further ones where it collapses and restarts are allowed."""
    options, output = job.options, Path(job.options.output)

    def attempt(seed: int, resume: bool) -> Attempted:
        return _attempt(job, seed, resume=resume)

    tries = run_tries(output, options.seed, options.restarts, attempt, resume=options.resume)
    progress = tries.last.progress
    told = finished(output) if options.resume else None
    metrics, record, more = told or (metrics_of(progress), record_of(tries, job.facts), {})
    more = write_all(output, metrics, record, more, job.baselines)
    title = f"{output}: the model of step {progress.best_step}"
    if options.validation is not None:
        title += f", best by {options.metric}"
    console.print(closing_table(title, metrics, more.get("baselines", {})))
    return TrainResult(output, metrics, progress.step, more)


def _attempt(job: _Job, seed: int, *, resume: bool) -> Attempted:
    """Train with a seed; see `training.tries.Attempt`."""
    options, tree = job.options, job.tree
    seed_all(seed)
    with open_checkpoint(options.encoder) as checkpoint:
        task, splits = job.teach(checkpoint)
        network = build_network(task, checkpoint)
        prepare_layers(network.encoder, frozen=options.frozen_layers, reinitialized=options.reinitialize_layers)
        session = _Session(task, checkpoint.tokenizer, options, network, splits, tree)
        inputs = {f"--{role} {split.path}": split.sha256 for role, split in splits.items()}
        inputs[f"--encoder {options.encoder}"] = encoder_sha256(
            checkpoint.config, checkpoint.tensors, checkpoint.tokenizer
        )
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
    if options.metric != task.metric and options.metric not in (scores := session.validate()):
        raise InputError(f"--metric {options.metric}: this task gives {', '.join(scores)}")

    job.facts = facts(device, dtype, inputs)
    folder = RunFolder(Path(options.output), session.save, keep=options.keep_checkpoints, inputs=inputs)
    stated = tree | {RECORD_KEY: job.facts}
    progress = folder.start(optimizer, stated, resume=resume, further=job.further, begin=job.begin)
    progress.seed = progress.seed if progress.step else seed
    if progress.seed != seed:
        return Attempted(progress)
    split = splits["train"]
    logger.info("training %d sequences on %s in %s", split.units, device, str(dtype).removeprefix("torch."))
    check = session.validate if "validation" in splits else None

    plan = dataclasses.replace(_plan(options, task, split.units), seed=seed)
    if options.batch_size == "auto" and not progress.step:  # a run that goes on keeps the parts it began with
        longest = int(split.features.unit_lengths.max(initial=1))
        progress.pieces = parts_that_fit(network.encoder, network.device, plan.batch_size, longest)
    batches = TrainingBatches(split.features, device)
    # What Python decides in a user's loss, a recording would decide once for all.
    graphs = batches.recorded_updates(network, plan.batch_size) if task_file_of(task) is None else None
    parts = Parts(network, split.units, batches.make, session.loss, optimizer, check, folder, graphs=graphs)
    parts = dataclasses.replace(parts, name_rows=session.name_rows, same_answer=lambda: session.same_answer)
    with fast_float32(device):
        progress = fit(parts, plan, progress)
    folder.close()
    chance = chance_loss(task, split.features.targets)
    collapse = collapse_of(progress, plan, chance)
    return Attempted(progress, collapse, None if collapse else late_collapse_of(progress, plan, chance))


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
    same_answer: str | None = None

    def loss(self, logits: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        """The task's loss on a batch."""
        return self.task.loss(logits, batch.targets, batch.layout)

    def validate(self) -> dict[str, float]:
        """Metrics on the validation split; what it teaches (thresholds) goes into the task."""
        split = self.splits["validation"]
        metrics, self.task = evaluate(
            self.network, self.task, split.features, split.examples, tune=True, look=self._look
        )
        return metrics

    def _look(self, task: Task[Any], logits: Logits) -> None:
        split = self.splits["validation"]
        self.same_answer = constant_answer(task, logits, split.features, split.examples)

    def name_rows(self, rows: npt.NDArray[np.int64]) -> str:
        """Where training sequences stand in their file."""
        split = self.splits["train"]
        return name_rows(split.path, split.examples, split.examples_of(rows))

    def save(self, weights: Mapping[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Write the model folder."""
        making = Making(
            self.options.encoder, {role: split.facts() for role, split in self.splits.items()}, dict(self.tree)
        )
        text = (self.tokenizer, given(self.options.max_seq_length))
        save_model(Path(self.options.output), (self.network.encoder.config, weights), self.task, text, making, metrics)


def _check(options: TrainOptions, task: Task[Any], tree: Mapping[str, Any]) -> dict[str, Labelled]:
    """Check options, output folder and data files together; return what each file holds.

    Raises:
        InputError: all problems at once.
    """
    problems = Problems()
    problems.extend(options.problems())
    if options.metric != task.metric and options.validation is None:
        problems.add(f"--metric {options.metric}: picks the best model on validation data; name some with --validation")
    problems.extend(output_problems(Path(options.output), tree, _MAY_DIFFER, resume=options.resume))
    read = {}
    for role, path in (("train", options.train), ("validation", options.validation)):
        if path is not None:
            try:
                read[role] = Labelled.read(task, Path(path))
            except InputError as error:
                problems.add(str(error))
    problems.raise_if_any()
    return read


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
    batch_size = task.defaults.batch_size if options.batch_size == "auto" else given(options.batch_size)
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
        checkpoint_every=options.checkpoint_every,
        max_skipped=options.max_skipped,
    )
