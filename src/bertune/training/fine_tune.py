"""Fine-tuning on prepared data: one run, and further ones with other seeds where it collapses.

Prepared data are a value, so that seeds, sweeps, folds or a distillation's students share them: each run is a
`FineTuning` of its own, with the same data.
"""

import dataclasses
import functools
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertune.checkpoints.source import open_checkpoint
from bertune.data.columns import named
from bertune.distributed.world import current
from bertune.durations import Clock, duration
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError, counted
from bertune.evaluation.baselines import baselines
from bertune.hardware import choose_device, choose_dtype, prepare_process
from bertune.model.build import build_network
from bertune.model.folder import save_model
from bertune.model.provenance import RECORD_KEY, Provenance, run_provenance
from bertune.model.use import evaluate
from bertune.network import BatchLoss, Network, batch_loss
from bertune.options import AdamWOptions
from bertune.progress import console
from bertune.tasks.protocol import Task
from bertune.tasks.user_files import task_file_of
from bertune.tokenization.text_encoding import TextEncoding
from bertune.training.calibrated import calibrated
from bertune.training.config import train_config
from bertune.training.estimate import seconds_of, training_operations
from bertune.training.launch import Batches, Hooks, TrainingJob, launch
from bertune.training.layers import layer_rates, prepare_layers
from bertune.training.loop.budget import TimeBudget
from bertune.training.loop.loop import TrainingBatches
from bertune.training.loop.randomness import seed_all
from bertune.training.loop.regularization import APART, gradients_by
from bertune.training.loop.state import Evaluation, TrainConfig
from bertune.training.loop.validation import steps_per_epoch
from bertune.training.options import TrainOptions, passes_of_update
from bertune.training.prepare import PreparedData, source_options
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.folder import FolderEvents, RunFolder
from bertune.training.run_folder.output import drops_by_example
from bertune.training.run_folder.report import closing_table, finished, metrics_of, record_of, write_all
from bertune.training.runs.collapse import FEW_UPDATES, chance_loss, collapse_of, constant_answer, late_collapse_of
from bertune.training.runs.restarts import RestartResult, train_with_restarts
from bertune.training.time_limit import probe, refuse_too_short

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FineTuning:
    """A run that is to be made.

    data: prepared; shared with other runs.
    options: of this run, its seed and output folder among them, with the task's defaults filled in.
    new_network: makes the network anew, after the seed is set; None: from the options' encoder.
    loss: instead of the task's.
    further: runs of the same size that are to follow on the same disk.
    events: called as the run goes on: before its first file, with every point of the curves.
    evaluated: called with every evaluation on the validation data.
    saved: called with the evaluation of every model that is saved, and its encoder's numbers.
    batches: makes the batches, on a device; None: of the training data's features.
    clock: of the time limit, where the options have one; it runs since before data were read.
    evaluations: in the whole run; None: one an epoch.
    checkpoint_every: updates from one checkpoint to the next, where the options do not say; None: those of the
        evaluations, or an epoch where these are further apart.
    """

    data: PreparedData
    options: TrainOptions
    new_network: Callable[[], Network] | None = None
    loss: BatchLoss | None = None
    further: int = 0
    events: FolderEvents = FolderEvents()  # noqa: RUF009 (frozen)
    evaluated: Callable[[Evaluation], None] | None = None
    saved: Callable[[Evaluation, EncoderConfig], None] | None = None
    batches: Callable[[torch.device], Batches] | None = None
    clock: Clock | None = None
    evaluations: int | None = None
    checkpoint_every: int | None = None

    @property
    def tree(self) -> dict[str, Any]:
        """All options, for run.yaml."""
        return dataclasses.asdict(dataclasses.replace(self.options, resume=False)) | dict(self.data.task_options)


def fine_tune(run: FineTuning) -> TrainResult:
    """Train, with further seeds where a run collapses and restarts are allowed; write metrics.json, print the table.

    Raises:
        InputError: options that do not fit the encoder or the data; a run of other options in the output folder.
        FaultError: disk or memory gave out; the last checkpoint, if there is one, is kept.
        Interrupted: by SIGINT or SIGTERM; a checkpoint is kept.
    """
    options, output = run.options, Path(run.options.output)
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    inputs = {name: sha256 for role, split in run.data.splits.items() for name, sha256 in split.inputs(role).items()}
    inputs[f"--encoder {options.encoder}"] = run.data.encoder
    by_example = run.data.drops_by_example and current().agree(drops_by_example(output, resume=options.resume))
    by_example = by_example and device.type == "cpu"
    record = run_provenance(device, dtype, inputs, drops_by_example=by_example)
    fitted = {name: value for name, value in run.data.task.to_json().items() if name not in ("name", "options")}

    def attempt(seed: int, resume: bool) -> RestartResult:
        seed_all(seed)
        clock = run.clock
        if clock is not None and options.restarts:  # tries share the limit, for one may collapse at its very end
            clock = clock.part(max(1, options.restarts + 1 - (seed - options.seed)))
        job = _job(dataclasses.replace(run, clock=clock), seed, device, dtype)
        job = dataclasses.replace(job, drops_by_example=by_example)
        folder = RunFolder(
            output,
            functools.partial(_save, run, job.network),
            run.tree | {RECORD_KEY: record},
            keep=options.keep_checkpoints,
            inputs=inputs,
            fitted=fitted,
            further=run.further,
            events=run.events,
        )
        hooks = Hooks(check=lambda: _check(run, job, resume=resume))
        state = launch(job, device, dtype, folder, resume=resume, hooks=hooks).state
        if state.seed != seed:
            return RestartResult(state)
        chance = chance_loss(run.data.task, run.data.train.features.targets)
        collapse = collapse_of(state, job.config, chance)
        return RestartResult(state, collapse, None if collapse else late_collapse_of(state, job.config, chance))

    tries = train_with_restarts(output, options.seed, options.restarts, attempt, resume=options.resume)
    state, last = tries.last.state, tries.last
    before = finished(output) if options.resume else None
    record = record_of(state, record, collapse=last.collapse, late_collapse=last.late, given_up=tries.given_up)
    metrics, record, more = before or (metrics_of(state), record, {})
    more = {**_metric_settings(run.data), **more}
    more = write_all(output, metrics, record, more, lambda: baselines_of(run.data) if options.baselines else {})
    title = f"{output}: the model of step {state.best_step}"
    if run.data.validation is not None:
        title += f", best by {options.metric}"
    elif options.folds is None:
        title += "; how good it is was not measured, for no rows were held out"
    console.print(closing_table(title, run.data.task, metrics, more.get("baselines", {})))
    collapse = record.get("collapse") if state.step >= FEW_UPDATES else None
    return TrainResult(output, metrics, state.step, more, collapse)


def _metric_settings(data: PreparedData) -> Mapping[str, str]:
    return {} if data.validation is None else data.task.metric_settings(data.validation.examples)


def _job(run: FineTuning, seed: int, device: torch.device, dtype: torch.dtype) -> TrainingJob:
    """The launcher's job for one seed, which is set already."""
    options, data, task, train = run.options, run.data, run.data.task, run.data.train
    network = network_from(data, options) if run.new_network is None else run.new_network()

    config = _config(run, seed)
    return TrainingJob(
        network,
        train.units,
        run.loss or batch_loss(task.loss),
        run.batches or (lambda device: TrainingBatches(train.features, device)),
        config,
        functools.partial(_validate, network, run) if data.validation is not None else None,
        AdamWOptions(weight_decay=options.weight_decay, max_grad_norm=options.max_grad_norm),
        layer_rates(len(network.encoder.layers), options.layer_decay),
        activation_checkpointing=options.activation_checkpointing,
        longest=int(train.features.unit_lengths.max(initial=1)) if options.batch_size == "auto" else None,
        # A recording fixes for good what Python does in a user's loss, or in one that keeps margins.
        recordable=task_file_of(task) is None and not options.label_margins,
        name_rows=train.name_rows,
        lengths=train.features.unit_lengths,
        divisible=not task.compares_rows,
        gradients=gradients_by(
            options.r_drop, getattr(task, "logit_kind", None), options.fgm, (options.freelb, options.freelb_steps)
        ),
        weight_average=options.ema or None,
        last_weights=options.average_last,
        budget=None if run.clock is None else TimeBudget(run.clock),
        announcement=_announcement(run, network, config, device, dtype),
    )


def _announcement(
    run: FineTuning, network: Network, config: TrainConfig, device: torch.device, dtype: torch.dtype
) -> str:
    """What is about to be done, where, and how long it will take."""
    train, validation = run.data.train, run.data.validation
    epoch = steps_per_epoch(train.units, config.batch_size)
    passes, evaluations = config.steps / epoch, -(-config.steps // (config.check_every or epoch))
    validated = 0 if validation is None else int(validation.features.unit_lengths.sum()) * evaluations
    again = run.options.activation_checkpointing
    own = run.options
    computed = passes * passes_of_update(own.r_drop, own.fgm, own.freelb, own.freelb_steps)
    work = training_operations(
        network.encoder, train.features.unit_lengths, passes=computed, validated=validated, again=again
    )
    seconds = seconds_of(work, network.encoder.config, device, dtype)
    seconds = seconds if run.clock is None else min(seconds, run.clock.left)
    what = f"training {counted(train.units, 'sequence')} on {device} in {str(dtype).removeprefix('torch.')}"
    size = f"{counted(config.steps, 'step')} of {counted(config.batch_size, 'sequence')}"
    size += f", {passes:.3g} {'pass' if passes == 1 else 'passes'}"
    few = config.steps < FEW_UPDATES and run.options.max_steps is None
    advice = ". So few steps teach little: if the model is poor, try more --epochs" if few else ""
    return f"{what}: {size}; about {duration(max(1.0, seconds))}{advice}"


def _save(run: FineTuning, network: Network, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
    """Write the model folder at the top of the run's."""
    data, calibration = run.data, None
    if data.validation is not None and run.options.calibration:
        weights, calibration = calibrated(weights, network, data.task, evaluation, data.validation)
    provenance = Provenance(
        run.options.encoder, {role: split.describe() for role, split in data.splits.items()}, run.tree, calibration
    )
    save_model(
        Path(run.options.output),
        (network.encoder.config, weights),
        evaluation.task or data.task,
        TextEncoding(data.tokenizer, data.max_seq_length),
        provenance,
        evaluation.metrics,
    )
    if run.saved is not None:
        run.saved(evaluation, network.encoder.config)


def technique_problems(options: TrainOptions, task: Task[Any]) -> list[str]:
    """Why a technique cannot be used on a task."""
    kind = getattr(task, "logit_kind", None)
    if not options.r_drop or kind in APART:
        return []
    if kind is None:
        why = f"the class of {task.name} does not say what its logits stand for (logit_kind: {', '.join(APART)})"
    else:
        why = f"compares the outputs of two passes over single rows, which {task.name} does not have"
    return [f"--r-drop {options.r_drop}: {why}; leave it out"]


def metric_problems(metric: str | None, task: Task[Any]) -> list[str]:
    """Why a metric is none of the task's, whatever the data. What the data decide is told by the first evaluation."""
    known: tuple[str, ...] = getattr(task, "metric_names", ())
    if metric in (None, task.metric, "loss") or not known or task_file_of(task) is not None:
        return []
    if metric in known or f"{str(metric).partition('/')[0]}/" in known:
        return []
    shown = [f"{name}LABEL" if name.endswith("/") else name for name in known]
    return [f"--metric {metric}: this task gives {named([*shown, 'loss'])}"]


def _check(run: FineTuning, job: TrainingJob, *, resume: bool) -> None:
    """Before anything is written: what an update takes, where time is limited, and the metric's name.

    Raises:
        InputError: a limit too short for one update; a metric that is none of the task's.
    """
    validation = run.data.validation
    if isinstance(job.budget, TimeBudget):
        probe(job, job.budget, 0 if validation is None else len(validation.features.input_ids.values))
        if not resume:
            refuse_too_short(job.budget, str(run.options.time_limit), Path(run.options.output))
    _check_metric(run, job)


def _check_metric(run: FineTuning, job: TrainingJob) -> None:
    """Raises InputError: a metric that is none of the task's."""
    metric = run.options.metric
    if metric == run.data.task.metric or job.evaluate is None:
        return
    if metric not in (found := job.evaluate().metrics):
        raise InputError(f"--metric {metric}: this task gives {named(found)}")


def measured(run: FineTuning) -> tuple[TimeBudget, TrainConfig]:
    """What an update and an evaluation of a run will take, and its numbers; nothing is trained.

    Raises:
        InputError: options that do not fit the encoder or the data; a metric that is none of the task's.
    """
    device = choose_device(run.options.device)
    seed_all(run.options.seed)
    dtype = choose_dtype(run.options.precision, device)
    job = _job(run, run.options.seed, device, dtype)
    prepare_process(device)
    job.network.to(device)
    job.network.encoder.set_compute_dtype(dtype)
    validation = run.data.validation
    budget = TimeBudget(run.clock or Clock(math.inf))
    probe(job, budget, 0 if validation is None else len(validation.features.input_ids.values))
    _check_metric(run, job)
    return budget, job.config


def judged(run: FineTuning, network: Network) -> Evaluation:
    """Evaluate a network, on any device, on a run's validation data, in the run's precision."""
    device = choose_device(run.options.device)
    prepare_process(device)
    network.to(device)
    network.encoder.set_compute_dtype(choose_dtype(run.options.precision, device))
    return _validate(network, run)


def write_model(run: FineTuning, network: Network, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
    """Write a network as the model of a run's folder. weights: in full precision. Shape: those of the network.

    Raises:
        FaultError: it cannot be written.
    """
    if current().is_first:
        with disk_errors(Path(run.options.output), 0):
            _save(run, network, weights, evaluation)


def network_from(data: PreparedData, options: TrainOptions) -> Network:
    """A new network on the options' encoder: layers frozen or drawn anew as they say.

    Raises:
        InputError: the encoder cannot be read, or has not so many layers.
    """
    with open_checkpoint(options.encoder, options=source_options(options)) as checkpoint:
        network = build_network(data.task, checkpoint)
    prepare_layers(network.encoder, frozen=options.frozen_layers, reinitialized=options.reinitialize_layers)
    return network


def baselines_of(data: PreparedData) -> dict[str, dict[str, float]]:
    """What simple methods reach on the validation data."""
    assert data.validation is not None
    return baselines(data.task, data.train.examples, data.validation.examples)


def _config(run: FineTuning, seed: int) -> TrainConfig:
    options, data = run.options, run.data
    defaults = data.task.defaults
    batch_size = defaults.batch_size if options.batch_size in (None, "auto") else int(options.batch_size)
    _check_batch_size(options, data, batch_size)
    between = options.checkpoint_every or run.checkpoint_every
    if between is None and run.evaluations is not None:
        between = steps_per_epoch(data.train.units, batch_size)
    config = train_config(
        options,
        sequences=data.train.units,
        batch_size=batch_size,
        epochs=options.epochs or defaults.epochs,
        learning_rate=options.learning_rate or defaults.learning_rate,
        metric=options.metric if data.validation is not None else None,
        seed=seed,
        evaluations=run.evaluations,
    )
    return dataclasses.replace(config, checkpoint_every=between)


def _check_batch_size(options: TrainOptions, data: PreparedData, batch_size: int) -> None:
    """Refuse batches of which the task's loss learns nothing; tell of a last one like that.

    Raises:
        InputError: too small a batch, or one that is computed in too small parts.
    """
    least, parts = data.task.least_batch_size(), options.gradient_accumulation
    if least == 1:
        return
    if batch_size < least * parts:
        divided = f" in --gradient-accumulation {parts} parts" if parts > 1 else ""
        raise InputError(
            f"--batch-size {batch_size}{divided}: the loss compares the examples that are computed together, at least "
            f"{least}; with fewer nothing is learnt. Choose --batch-size {least * parts} or more"
        )
    if 0 < (left := data.train.units % batch_size) < least:
        logger.warning(
            "the last batch of every epoch holds %d of %d examples, from which this loss learns nothing; another "
            "--batch-size, such as %d, wastes none", left, data.train.units, batch_size + 1,
        )  # fmt: skip


def _validate(network: Network, run: FineTuning) -> Evaluation:
    """Metrics on the validation split; temperatures and thresholds are fitted to it."""
    data, split = run.data, run.data.validation
    assert split is not None
    calibrate = run.options.calibration
    found = evaluate(network, data.task, split.features, split.examples, tune=True, calibrate=calibrate)
    evaluation = Evaluation(
        found.metrics,
        constant_answer(found.task, found.logits, split.features, split.examples),
        found.metrics.get("matthews_correlation"),
        found.task,
        found.temperatures,
        found.logits,
    )
    if run.evaluated is not None:
        run.evaluated(evaluation)
    return evaluation
