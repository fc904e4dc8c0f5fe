"""`bertune pretrain`: from options to a pre-trained model in its run folder."""

import dataclasses
import functools
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from bertune.argument_names import python_call
from bertune.data.in_memory import as_table, kept_file
from bertune.distributed.world import current
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, counted
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.hardware import choose_device, choose_dtype
from bertune.inference.evaluation import MAX_TOKENS, run_batches
from bertune.model.folder import save_model
from bertune.model.provenance import RECORD_KEY, Provenance, encoder_sha256, files_sha256, run_provenance
from bertune.network import Batch, Network, batch_loss, pack
from bertune.option_values import checked_values
from bertune.options import AdamWOptions, keyword_problems
from bertune.pretraining.data import Inputs, PretrainingData, Source, find_inputs, open_data
from bertune.pretraining.estimate import size_of
from bertune.pretraining.initial_model import InitialModel, open_initial_model
from bertune.pretraining.options import PretrainOptions
from bertune.progress import console, progress_bar
from bertune.tables import table_of
from bertune.tasks.masking.scores import PretrainingScores
from bertune.tasks.options import PretrainingOptions
from bertune.tasks.pretraining import Pretraining
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.config import check_run, resumes, train_config
from bertune.training.launch import Hooks, HostBatches, TrainingJob, launch
from bertune.training.loop.budget import TimeBudget
from bertune.training.loop.randomness import seed_all
from bertune.training.loop.state import Evaluation
from bertune.training.prepare import source_problems
from bertune.training.result import TrainResult
from bertune.training.run_folder.errors import disk_errors, run_errors
from bertune.training.run_folder.folder import RunFolder
from bertune.training.run_folder.output import drops_by_example
from bertune.training.run_folder.report import finished, metrics_of, record_of, write_metrics
from bertune.training.time_limit import TimeLimit, probe, refuse_too_short

logger = logging.getLogger(__name__)

_NEEDED = ("train", "output")
_EVALUATIONS = 10
"""Evaluations of a run where nothing else is said."""
METRIC = "masked_lm_loss"


@python_call
def pretrain(**options: Any) -> TrainResult:
    """Pre-train an encoder; the keywords are the options of `bertune pretrain`.

    Raises:
        InputError: bad options or data.
    """
    keyword_problems("pretrain", options, [field.name for field in dataclasses.fields(PretrainOptions)], _NEEDED)
    values: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    for name in ("train", "validation"):
        if (given := values.get(name)) is None:
            continue
        table = None if isinstance(given, str) else as_table(given)
        several = [given] if isinstance(given, str) else given if table is None else [kept_file(table, name)]
        values[name] = [str(path) for path in several]
    return run(PretrainOptions(**checked_values(PretrainOptions, values)))


def run(options: PretrainOptions, *, limit: TimeLimit | None = None) -> TrainResult:
    """One run, from options to the closing table.

    limit: time of the run, for which fewer updates are made than were asked for.

    Raises:
        InputError: bad options or data; nothing but tokenized text in the cache has been written then.
        FaultError: disk or memory gave out; the last checkpoint, if there is one, is kept.
        Interrupted: by SIGINT or SIGTERM; a checkpoint is kept.
    """
    with run_errors(Path(options.output), "pretrain"):
        tree = dataclasses.asdict(dataclasses.replace(options, resume=False))
        options = dataclasses.replace(options, resume=resumes(options))
        problems = source_problems(options.encoder)
        inputs = check_run(options, tree, {"inputs": lambda: find_inputs(options)}, problems)["inputs"]
        return _run(options, tree, inputs, limit)


@dataclass(frozen=True)
class _Prepared:
    """What a run is made of. hashes: SHA-256 of its inputs, by what each is called in messages."""

    name: str
    tokenizer: Tokenizer
    data: PretrainingData
    task: Pretraining
    hashes: Mapping[str, str]


def _run(options: PretrainOptions, tree: dict[str, Any], inputs: Inputs, limit: TimeLimit | None) -> TrainResult:
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    seed_all(options.seed)
    prepared, network = _prepare(options, inputs)
    job = _job(options, prepared, network, f"on {device} in {str(dtype)[6:]}")
    again = options.activation_checkpointing
    size = size_of(
        job.config, network, prepared.data, (device, dtype), most=options.max_validation_sequences, again=again
    )
    job = dataclasses.replace(job, announcement=f"{job.announcement}: {size}")
    if limit is not None:
        job = dataclasses.replace(job, budget=TimeBudget(limit.clock))
    output = Path(options.output)
    by_example = current().agree(drops_by_example(output, resume=options.resume)) and device.type == "cpu"
    job = dataclasses.replace(job, drops_by_example=by_example)
    record = run_provenance(device, dtype, prepared.hashes, drops_by_example=by_example)

    def save(weights: Mapping[str, Tensor], evaluation: Evaluation) -> None:
        model = (network.encoder.config, weights)
        text = TextEncoding(prepared.tokenizer, prepared.data.length)
        provenance = Provenance(prepared.name, prepared.data.described, tree)
        save_model(output, model, prepared.task, text, provenance, evaluation.metrics)

    before: dict[str, float] = {}

    def measure() -> None:
        if limit is not None and isinstance(job.budget, TimeBudget):
            held = prepared.data.validation
            rows = 0 if held is None else min(options.max_validation_sequences, len(held))
            probe(job, job.budget, rows * prepared.data.length)
            if not options.resume:
                refuse_too_short(job.budget, limit.said, output)

    hooks = Hooks(check=measure, on_start=lambda: before.update(_before(output / "before.json", job)))
    stated = tree | {RECORD_KEY: record}
    folder = RunFolder(output, save, stated, keep=options.keep_checkpoints, inputs=prepared.hashes)
    state = launch(job, device, dtype, folder, resume=options.resume, hooks=hooks).state

    stored = finished(output) if options.resume else None
    first = {f"before_{name}": value for name, value in before.items()}
    metrics, record, more = stored or (metrics_of(state) | first, record_of(state, record), {})
    write_metrics(output, metrics, record, more)
    title = f"{output}: the model of step {state.best_step}"
    console.print(table_of(title + (f", best by {METRIC}" if before else ""), metrics))
    return TrainResult(output, metrics, state.step)


def _prepare(options: PretrainOptions, inputs: Inputs) -> tuple[_Prepared, Network]:
    """Read the start and the data. Returns: what both come to, and the network."""
    # Hashed before anything is read: what comes into a file later is not what this run is made from.
    hashes = {"--train": files_sha256(inputs.train)}
    if inputs.validation:
        hashes["--validation"] = files_sha256(inputs.validation)
    with open_initial_model(options) as start:
        pairs = _next_sentence(start, inputs, options)
        if inputs.kind != "tfrecord":  # told before any long work
            _check_length(options.max_seq_length, start, options)
        # Rank 0 tokenizes; the others find the corpus in the cache.
        data = current().first_then_others(lambda: open_data(inputs, start.tokenizer, options, next_sentence=pairs))
        _check_length(data.length, start, options)
        network = start.network(next_sentence=pairs)
        tensors = start.checkpoint.tensors if start.checkpoint is not None else {}
        hashes["the start (--encoder, --vocab, --add-tokens)"] = encoder_sha256(start.config, tensors, start.tokenizer)
    if (
        not pairs and network.encoder.config.pooler
    ):  # without next sentence nothing teaches the pooler; it stays as it is
        network.encoder.pooler.requires_grad_(False)
    own = PretrainingOptions(text_column=options.text_column, mask_probability=options.mask_probability)
    task = Pretraining(options=own, next_sentence=pairs)
    return _Prepared(start.name, start.tokenizer, data, task, hashes), network


def _job(options: PretrainOptions, prepared: _Prepared, network: Network, where: str) -> TrainingJob:
    """The launcher's job. where: the device and its numbers, for the log."""
    data, task = prepared.data, prepared.task
    kinds = "masked words and next sentence" if task.next_sentence else "masked words"

    def make_batch(rows: npt.NDArray[np.int64], epoch: int) -> Batch:
        return batch_of(data.train, rows, epoch)

    def validate(held_out: Source) -> Evaluation:
        return Evaluation(score(network, held_out, most=options.max_validation_sequences))

    return TrainingJob(
        network,
        len(data.train),
        batch_loss(task.loss),
        lambda _: HostBatches(make_batch),
        train_config(
            options,
            sequences=len(data.train),
            batch_size=options.batch_size,
            epochs=options.epochs,
            learning_rate=options.learning_rate or (1e-4 if options.encoder is None else 5e-5),
            metric=METRIC if data.validation is not None else None,
            evaluations=_EVALUATIONS,
            evaluate_every=options.evaluate_every,
        ),
        None if data.validation is None else functools.partial(validate, data.validation),
        AdamWOptions(weight_decay=options.weight_decay, max_grad_norm=options.max_grad_norm),
        sparse_embeddings=False,  # the word vectors are the last layer of the masked-word head too
        activation_checkpointing=options.activation_checkpointing,
        announcement=f"pre-training on {kinds}: {counted(len(data.train), 'sequence')} {where}",
    )


def batch_of(source: Source, rows: npt.NDArray[np.int64], epoch: int) -> Batch:
    """Some sequences of an epoch, packed; `rows` are their numbers in the source."""
    batch = pack(source.features(rows, epoch), np.arange(len(rows)))
    return dataclasses.replace(batch, rows=rows)


def score(network: Network, source: Source, *, most: int) -> dict[str, float]:
    """Metrics on a source's sequences, or on `most` of them, evenly spread; always the same ones, masked the same.

    Sums are added up batch by batch, so memory does not grow with the source. Ranks take the batches in turn; what each
    batch came to is added in the order of the batches, so the figures are those of one process.
    """
    count = min(most, len(source))
    rows = np.linspace(0, len(source) - 1, count).round().astype(np.int64)
    world, mine = current(), list[npt.NDArray[np.float64]]()
    batches = islice(_batches_of(source, rows), world.rank, None, world.size)
    with progress_bar("evaluating", count) as bar, fast_float32(network.device):
        for output in run_batches(network, batches):
            scores = PretrainingScores()
            batch, following = output.batch, output.batch.targets.get("next_sentence")
            scores.add(
                output.logits,
                batch.targets["labels"].numpy(),
                batch.layout.starts.numpy(),
                None if following is None else following.numpy(),
            )
            mine.append(scores.sums)
            bar.advance(len(batch.layout) * world.size)
    shares = world.gather(mine)
    total = PretrainingScores()
    for number in range(sum(map(len, shares))):
        total.sums += shares[number % world.size][number // world.size]
    return total.metrics()


def _batches_of(source: Source, rows: npt.NDArray[np.int64]) -> Iterator[Batch]:
    """The sequences at these places, as many at once as have MAX_TOKENS tokens if all are as long as those before."""
    at, width = 0, 1
    while at < len(rows):
        batch = batch_of(source, rows[at : at + max(1, MAX_TOKENS // width)], epoch=0)
        width = max(width, batch.layout.longest)
        at += len(batch.layout)
        yield batch


def _next_sentence(start: InitialModel, inputs: Inputs, options: PretrainOptions) -> bool:
    """Whether next sentence is learnt: as said, else where the checkpoint has a head for it, or instances tell it.

    Raises:
        InputError: an encoder that knows no segments.
    """
    pairs = options.next_sentence
    if pairs is None:
        pairs = start.next_sentence is not None or (inputs.kind == "tfrecord" and start.checkpoint is None)
    if pairs and start.config.type_vocab_size < 2:
        raise InputError(f"{start.name}: has a single segment, so it cannot tell A from B; add --no-next-sentence")
    return pairs


def _check_length(length: int, start: InitialModel, options: PretrainOptions) -> None:
    """Raises InputError for sequences that are longer than the encoder's positions."""
    positions = start.config.max_position_embeddings
    if length > positions:
        what = f"--max-seq-length {length}" if length == options.max_seq_length else f"instances of {length} tokens"
        raise InputError(f"{what}: {start.name} has only {positions} positions")


def _before(path: Path, job: TrainingJob) -> dict[str, float]:
    """The metrics before the first update, kept in a file for a run that is resumed."""
    world = current()
    if world.agree(path.is_file()):
        return {name: float(value) for name, value in read_json(path).items()} if world.is_first else {}
    metrics = job.evaluate().metrics if job.evaluate is not None else {}
    if metrics and world.is_first:
        logger.info("before: %s", "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        with disk_errors(path, 0):
            write_text(path, json.dumps(metrics, indent=2) + "\n")
    return metrics
