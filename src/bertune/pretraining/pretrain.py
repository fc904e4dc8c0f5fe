"""`bertune pretrain`: from options to a pre-trained model in its run folder."""

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

from bertune.data.features import Batch, pack
from bertune.errors import InputError, Problems
from bertune.files.atomic_write import write_text
from bertune.files.json_files import read_json
from bertune.hardware import choose_device, choose_dtype, fast_float32
from bertune.inference.network import Network
from bertune.model.facts import RECORD_KEY, facts
from bertune.model.inputs import encoder_sha256, files_sha256
from bertune.model.use import Making, save_model
from bertune.pretraining.data import Inputs, PretrainingData, Source, find_inputs, open_data
from bertune.pretraining.options import PretrainOptions
from bertune.pretraining.start import Start, open_start
from bertune.progress import console, progress_bar, table_of
from bertune.tasks.masking.head import PretrainingScores
from bertune.tasks.options import PretrainingOptions
from bertune.tasks.pretraining import Pretraining
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.loop.loop import fit, steps_per_epoch
from bertune.training.loop.optimizer import AdamW, AdamWOptions, Schedule
from bertune.training.loop.randomness import seed_all
from bertune.training.loop.state import Parts, Plan, Progress
from bertune.training.run_folder.errors import guarded, writing
from bertune.training.run_folder.folder import RunFolder
from bertune.training.run_folder.output import output_problems
from bertune.training.run_folder.report import finished, metrics_of, record_of, write_metrics
from bertune.training.runs.restarts import Attempted, Tries
from bertune.training.train import TrainResult

logger = logging.getLogger(__name__)

_MAY_DIFFER = {"resume", "output", "cache", "checkpoint_every", "keep_checkpoints", RECORD_KEY}
"""Options that a resumed run need not repeat."""
_EVALUATIONS = 10
"""Evaluations of a run where nothing else is said."""
_TOKENS = 4096
"""Tokens of a batch in evaluation."""
METRIC = "masked_lm_loss"


def pretrain(**options: Any) -> TrainResult:
    """Pre-train an encoder; the keywords are the options of `bertune pretrain`.

    Raises:
        InputError: bad options or data.
    """
    known = {field.name for field in dataclasses.fields(PretrainOptions)}
    if strange := sorted(set(options) - known):
        raise InputError(f"pretrain: no option {', '.join(strange)}; known: {', '.join(sorted(known))}")
    if absent := {"train", "output"} - set(options):
        raise InputError(f"pretrain: needs {', '.join(sorted(absent))}")
    values: dict[str, Any] = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    for name in ("train", "validation"):
        if isinstance(given := values.get(name), str):
            values[name] = [given]
        elif given is not None:
            values[name] = [str(path) for path in given]
    return run(PretrainOptions(**values))


def run(options: PretrainOptions) -> TrainResult:
    """One run, from options to the closing table.

    Raises:
        InputError: bad options or data; nothing but tokenized text in the cache has been written then.
        FaultError: disk or memory gave out; the last checkpoint, if there is one, is kept.
        Interrupted: by SIGINT or SIGTERM; a checkpoint is kept.
    """
    with guarded(Path(options.output), "pretrain"):
        return _run(options)


def _run(options: PretrainOptions) -> TrainResult:
    tree = dataclasses.asdict(dataclasses.replace(options, resume=False))
    inputs = _check(options, tree)
    device = choose_device(options.device)
    dtype = choose_dtype(options.precision, device)
    seed_all(options.seed)
    # Hashed before anything is read: what comes into a file later is not what this run is made from.
    hashes = {"--train": files_sha256(inputs.train)}
    if inputs.validation:
        hashes["--validation"] = files_sha256(inputs.validation)
    with open_start(options) as start:
        pairs = _next_sentence(start, inputs, options)
        if inputs.kind != "tfrecord":  # told before any long work
            _check_length(options.max_seq_length, start, options)
        data = open_data(inputs, start.tokenizer, options, next_sentence=pairs)
        _check_length(data.length, start, options)
        network = start.network(next_sentence=pairs)
        tensors = start.checkpoint.tensors if start.checkpoint is not None else {}
        hashes["the start (--encoder, --vocab, --add-tokens)"] = encoder_sha256(start.config, tensors, start.tokenizer)
    network.to(device)
    # The word vectors are the last layer of the masked-word head too, so their gradient is dense.
    network.encoder.embeddings.word.sparse = False
    network.encoder.activation_checkpointing = options.activation_checkpointing
    if not pairs:  # without next sentence nothing teaches the pooler; it stays as it is
        network.encoder.pooler.requires_grad_(False)
    numbers = AdamWOptions(weight_decay=options.weight_decay, max_grad_norm=options.max_grad_norm)
    optimizer = AdamW(network.named_parameters(), numbers)
    network.encoder.set_compute_dtype(dtype)

    output = Path(options.output)
    session = _Session(options, start.name, start.tokenizer, network, data, tree, pairs)
    folder = RunFolder(output, session.save, keep=options.keep_checkpoints, inputs=hashes)
    session.facts = facts(device, dtype, hashes)
    progress = folder.start(optimizer, tree | {RECORD_KEY: session.facts}, resume=options.resume)
    progress.seed = options.seed
    kinds = "masked words and next sentence" if pairs else "masked words"
    logger.info("pre-training on %s: %d sequences on %s in %s", kinds, len(data.train), device, str(dtype)[6:])

    def make_batch(rows: npt.NDArray[np.int64], epoch: int) -> Batch:
        return batch_of(data.train, rows, epoch)

    check = session.validate if data.validation is not None else None
    parts = Parts(network, len(data.train), make_batch, session.loss, optimizer, check, folder)
    with fast_float32(device):
        session.before = _before(output / "before.json", session)
        progress = fit(parts, _plan(options, len(data.train), data.validation is not None), progress)
    folder.close()
    return _finish(output, session, progress)


def batch_of(source: Source, rows: npt.NDArray[np.int64], epoch: int) -> Batch:
    """Some sequences of an epoch, packed; `rows` are their numbers in the source."""
    batch = pack(source.features(rows, epoch), np.arange(len(rows)))
    return dataclasses.replace(batch, rows=rows)


def score(network: Network, source: Source, *, most: int) -> dict[str, float]:
    """Metrics on a source's sequences, or on `most` of them, evenly spread; always the same ones, masked the same.

    Sums are gathered batch by batch, so memory does not grow with the source.
    """
    count = min(most, len(source))
    rows = np.linspace(0, len(source) - 1, count).round().astype(np.int64)
    scores = PretrainingScores()
    was_training = network.training
    network.eval()
    with torch.inference_mode(), progress_bar("evaluating", count) as bar, fast_float32(network.device):
        at, width = 0, 1
        while at < count:
            chosen = rows[at : at + max(1, _TOKENS // width)]
            batch = batch_of(source, chosen, epoch=0).to(network.device)
            width = max(width, batch.layout.longest)
            following = batch.targets.get("next_sentence")
            scores.add(
                network(batch).float().cpu().numpy(),
                batch.targets["labels"].cpu().numpy(),
                batch.layout.starts.cpu().numpy(),
                None if following is None else following.cpu().numpy(),
            )
            at += len(chosen)
            bar.advance(len(chosen))
    network.train(was_training)
    return scores.metrics()


@dataclass
class _Session:
    """What evaluating and saving need during a run. before: the metrics at the start."""

    options: PretrainOptions
    name: str
    tokenizer: Tokenizer
    network: Network
    data: PretrainingData
    tree: Mapping[str, Any]
    pairs: bool
    before: dict[str, float] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def task(self) -> Pretraining:
        """The task of the model folder."""
        own = PretrainingOptions(text_column=self.options.text_column, mask_probability=self.options.mask_probability)
        return Pretraining(options=own, next_sentence=self.pairs)

    def loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The loss of a batch."""
        return self.task.loss(logits, batch.targets, batch.layout)

    def validate(self) -> dict[str, float]:
        """Metrics on the held-out part."""
        if self.data.validation is None:
            return {}
        return score(self.network, self.data.validation, most=self.options.max_validation_sequences)

    def save(self, weights: Mapping[str, Tensor], metrics: Mapping[str, float]) -> None:
        """Write the model folder."""
        making = Making(self.name, self.data.facts, dict(self.tree))
        model = (self.network.encoder.config, weights)
        text = (self.tokenizer, self.data.length)
        save_model(Path(self.options.output), model, self.task, text, making, metrics)


def _check(options: PretrainOptions, tree: Mapping[str, Any]) -> Inputs:
    """Check options, output folder and files together; return the files.

    Raises:
        InputError: all problems at once.
    """
    problems = Problems()
    problems.extend(options.problems())
    problems.extend(output_problems(Path(options.output), tree, _MAY_DIFFER, resume=options.resume))
    inputs = None
    try:
        inputs = find_inputs(options)
    except InputError as error:
        problems.add(str(error))
    problems.raise_if_any()
    assert inputs is not None
    return inputs


def _next_sentence(start: Start, inputs: Inputs, options: PretrainOptions) -> bool:
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


def _check_length(length: int, start: Start, options: PretrainOptions) -> None:
    """Raises InputError for sequences that are longer than the encoder's positions."""
    positions = start.config.max_position_embeddings
    if length > positions:
        what = f"--max-seq-length {length}" if length == options.max_seq_length else f"instances of {length} tokens"
        raise InputError(f"{what}: {start.name} has only {positions} positions")


def _plan(options: PretrainOptions, sequences: int, evaluates: bool) -> Plan:
    steps = options.max_steps or max(1, math.ceil(steps_per_epoch(sequences, options.batch_size) * options.epochs))
    rate = options.learning_rate or (1e-4 if options.encoder is None else 5e-5)
    return Plan(
        steps=steps,
        batch_size=options.batch_size,
        accumulation=options.gradient_accumulation,
        seed=options.seed,
        schedule=Schedule(rate, steps, int(steps * options.warmup_ratio)),
        patience=options.patience,
        metric=METRIC if evaluates else None,
        check_every=options.evaluate_every or max(1, math.ceil(steps / _EVALUATIONS)),
        checkpoint_every=options.checkpoint_every,
        max_skipped=options.max_skipped,
    )


def _before(path: Path, session: _Session) -> dict[str, float]:
    """The metrics at the start of the run, kept beside it for one that is resumed."""
    if path.is_file():
        return {name: float(value) for name, value in read_json(path).items()}
    metrics = session.validate()
    if metrics:
        logger.info("before: %s", "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
        with writing(path, 0):
            write_text(path, json.dumps(metrics, indent=2) + "\n")
    return metrics


def _finish(output: Path, session: _Session, progress: Progress) -> TrainResult:
    """Complete metrics.json with the start's figures and the run's speed, and show the closing table."""
    before = {f"before_{name}": value for name, value in session.before.items()}
    told = finished(output) if session.options.resume else None
    record = record_of(Tries(Attempted(progress), []), session.facts)
    metrics, record, more = told or (metrics_of(progress) | before, record, {})
    write_metrics(output, metrics, record, more)
    title = f"{output}: the model of step {progress.best_step}"
    console.print(table_of(title + (f", best by {METRIC}" if session.before else ""), metrics))
    return TrainResult(output, metrics, progress.step)
