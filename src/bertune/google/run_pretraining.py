"""`python -m bertune.google.run_pretraining`: google-research/bert's program for masked words and next sentence."""

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.data.documents import find_files
from bertune.distributed.world import current
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.features import IGNORED
from bertune.google.flags import Flags, parse_flags
from bertune.google.initial_checkpoint import (
    InitialCheckpoint,
    ModelFlags,
    check_positions,
    google_names,
    implied_by_source,
    open_initial_checkpoint,
)
from bertune.google.running import (
    RunFlags,
    Runtime,
    TrainFlags,
    build,
    make_folder,
    run_program,
    save_model_folder,
    set_up,
    write_results,
)
from bertune.google.tables import tables_of_run
from bertune.google.training import Training, TrainingTarget, is_finished, newest_or_start, train
from bertune.inference.evaluation import run_batches
from bertune.network import Batch, Network
from bertune.options import option
from bertune.pretraining.data import FixedSequences
from bertune.pretraining.instances import open_instances
from bertune.pretraining.pretrain import batch_of
from bertune.progress import progress_bar
from bertune.tasks.masking.scores import CORRECT, LOG_PROBABILITY, NEXT
from bertune.tasks.pretraining import Pretraining
from bertune.tensorflow_formats.tfrecord import count_records, read_records
from bertune.tokenization.casing import casing_of
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.vocabulary_files import read_vocabulary

logger = logging.getLogger("bertune.google.run_pretraining")  # also when run by `python -m`

HEADS = ("masked-lm", "next-sentence")


@dataclass(frozen=True)
class PretrainingFlags:
    """What run_pretraining does, and on what."""

    bert_config_file: str = option(help="bert_config.json: the model's sizes")
    input_file: str = option(help="TFRecord files of create_pretraining_data, by comma; patterns are allowed")
    init_checkpoint: str | None = option(
        None, help="where the weights start, as run_classifier's; left out: new weights"
    )
    max_seq_length: int = option(128, help="length of the data's sequences")
    max_predictions_per_seq: int = option(20, help="width of the data's masked words")
    do_train: bool = option(False, help="train")
    do_eval: bool = option(False, help="evaluate")
    num_train_steps: int = option(100000, help="updates of the whole run")
    num_warmup_steps: int = option(10000, help="updates over which the learning rate rises")
    eval_batch_size: int = option(8, help="sequences of an evaluation batch")
    max_eval_steps: int = option(100, help="batches of an evaluation")
    eval_input_file: str | None = option(None, help="not in the original: evaluate on these files instead")
    vocab_file: str | None = option(
        None, help="not in the original: vocab.txt for the model folder; by default the checkpoint's"
    )

    @property
    def shown(self) -> str:
        """The flag whose files an evaluation reads."""
        return "eval_input_file" if self.eval_input_file else "input_file"

    def problems(self) -> list[str]:
        """What no run can start with."""
        found = []
        if not (self.do_train or self.do_eval):
            found.append("run_pretraining: nothing to do; give at least one of --do_train, --do_eval")
        least = {
            "max_seq_length": 3,
            "max_predictions_per_seq": 1,
            "num_train_steps": 1,
            "max_eval_steps": 1,
            "eval_batch_size": 1,
        }
        for name, low in {**least, "num_warmup_steps": 0}.items():
            if getattr(self, name) < low:
                found.append(f"--{name}={getattr(self, name)}: must be at least {low}")
        if self.vocab_file is not None and not Path(self.vocab_file).is_file():
            found.append(f"--vocab_file {self.vocab_file}: no such file")
        return found


def program(argv: Sequence[str]) -> None:
    """The command's work, from its arguments."""
    flags = parse_flags("run_pretraining", [PretrainingFlags, TrainFlags, RunFlags], argv, implied_by_source)
    own, training = flags.of(PretrainingFlags), flags.of(TrainFlags)
    problems = Problems()
    problems.extend([*own.problems(), *training.problems()])
    files: dict[str, list[Path]] = {}
    for name, value in {"input_file": own.input_file, "eval_input_file": own.eval_input_file}.items():
        try:
            files[name] = find_files([part for part in value.split(",") if part], f"--{name}") if value else []
        except InputError as error:
            problems.add(str(error))
    problems.raise_if_any()
    check_widths([path for name in _needed(own, trains=own.do_train) for path in files[name]], own)
    runtime = set_up(flags.of(RunFlags))
    model = ModelFlags(own.bert_config_file, "", own.init_checkpoint)
    start = open_initial_checkpoint(model, strict=runtime.strict, with_vocabulary=False)
    check_positions(own.max_seq_length, start.config)
    words = vocabulary(own, start) if own.do_train else None
    output = Path(training.output_dir)
    trains = own.do_train and not is_finished(output, own.num_train_steps)
    names = _needed(own, trains=trains)
    with tables_of_run(output, trains=own.do_train) as tables:
        data = {name: open_sequences(files[name], start.config.vocab_size, tables) for name in names}
        _run(flags, runtime, start, words, Data(files["input_file"], data, trains))


def _needed(flags: PretrainingFlags, *, trains: bool) -> list[str]:
    """The flags whose files a run reads, the training data first."""
    needed = ["input_file"] if trains else []
    return [*needed, flags.shown] if flags.do_eval and flags.shown not in needed else needed


@dataclass(frozen=True)
class Data:
    """What a run reads.

    files: of `--input_file`.  instances: by flag, of those flags alone whose files are needed.
    trains: whether there is anything left to train.
    """

    files: Sequence[Path]
    instances: Mapping[str, FixedSequences]
    trains: bool


def _run(flags: Flags, runtime: Runtime, start: InitialCheckpoint, words: Tokenizer | None, data: Data) -> None:
    """Train, evaluate, or both. words: for the model folder."""
    own, training = flags.of(PretrainingFlags), flags.of(TrainFlags)
    output = Path(training.output_dir)
    make_folder(output)
    # Not sparse: the heads give the word table dense gradients.
    network = build(start, HEADS, Pretraining(next_sentence=True), runtime, sparse=False)
    names = google_names(start.config, HEADS)
    if data.trains:
        instances = data.instances["input_file"]
        target = TrainingTarget(
            network,
            names,
            len(instances),
            lambda rows: batch_of(instances, rows, 0),
            _loss,
            lambda rows: f"{own.input_file}, records {', '.join(map(str, np.sort(rows)))} (from 0, file after file)",
        )
        step = train(runtime, target, Training(own.num_train_steps, own.num_warmup_steps, training))
    else:
        step = newest_or_start(network, names, output)
    if own.do_train:
        _save(own, network, words, (output, data), {"encoder": start.source, "flags": flags.provided})
    network.encoder.set_compute_dtype(runtime.dtype)
    if own.do_eval:
        if own.shown == "input_file":
            logger.warning("evaluating on --input_file, as the original does; --eval_input_file names other data")
        results = evaluation(network, runtime, data.instances[own.shown], (own.max_eval_steps, own.eval_batch_size))
        write_results(output / "eval_results.txt", results | {"global_step": step})


def check_widths(files: Sequence[Path], flags: PretrainingFlags) -> None:
    """Compare every file's first record with the lengths that the flags say.

    Raises:
        InputError: a file without records, of something else, or of other lengths; all at once.
    """
    problems = Problems()
    for path in dict.fromkeys(files):
        record = next(read_records(path), None)
        if record is None:
            problems.add(f"{path}: no records in it")
            continue
        widths = {
            "input_ids": ("max_seq_length", flags.max_seq_length),
            "masked_lm_positions": ("max_predictions_per_seq", flags.max_predictions_per_seq),
        }
        for name, (flag, width) in widths.items():
            if name not in record:
                problems.add(f"{path}: its records have no {name}; is it a file of create_pretraining_data?")
            elif len(record[name]) != width:
                problems.add(
                    f"{path}: {name} has {len(record[name])} values, expected {width}; pass --{flag}="
                    f"{len(record[name])}, which the data were made with"
                )
    problems.raise_if_any()


def open_sequences(files: Sequence[Path], vocab_size: int, folder: Path) -> FixedSequences:
    """The records of some files, laid out in a folder, so that memory does not grow with them and any can be read.

    Raises:
        InputError: a broken file, or records that do not fit the model.
    """
    logger.info("copying %s to %s, which is removed when this run is finished", ", ".join(map(str, files)), folder)
    return FixedSequences(open_instances(files, folder, vocab_size), next_sentence=True)


def _loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    return Pretraining(next_sentence=True).loss(logits, batch.targets, batch.layout)


def evaluation(
    network: Network, runtime: Runtime, instances: FixedSequences, size: tuple[int, int]
) -> dict[str, np.float32 | int]:
    """The original's figures over the first instances, which begin anew at the end.

    size: batches, and instances a batch.

    `loss` is the mean of the batches' losses, everything else a mean over masks or sequences.
    """
    steps, batch_size = size
    world = current()
    mine = list(range(world.rank, steps, world.size))
    by_step: dict[int, tuple[float, npt.NDArray[np.float32], npt.NDArray[np.float32]]] = {}
    rows = (np.arange(step * batch_size, (step + 1) * batch_size) % len(instances) for step in mine)
    outputs = run_batches(network, (batch_of(instances, some, 0) for some in rows))
    with fast_float32(runtime.device), progress_bar("evaluating", len(mine)) as bar:
        for step, output in zip(mine, outputs, strict=True):
            logits, targets = torch.from_numpy(output.logits), output.batch.targets
            masked = logits[targets["labels"] != IGNORED]
            scores, truth = logits[output.batch.layout.starts, NEXT], targets["next_sentence"]
            pair_losses = torch.nn.functional.cross_entropy(scores, truth, reduction="none")
            mean = -masked[:, LOG_PROBABILITY].sum() / (len(masked) + 1e-5)
            pairs = torch.stack([pair_losses, (scores.argmax(1) == truth).float()], 1)
            by_step[step] = float(mean + pair_losses.mean()), masked.numpy(), pairs.numpy()
            bar.advance()
    for theirs in world.gather(by_step):
        by_step |= theirs
    losses, masks, pairs_of_step = zip(*(by_step[step] for step in range(steps)), strict=True)
    words, following = np.concatenate(masks), np.concatenate(pairs_of_step)
    return {  # a mean over masks or sequences, but for the first
        "loss": np.float32(np.mean(losses)),
        "masked_lm_loss": np.float32(-words[:, LOG_PROBABILITY].mean()),
        "masked_lm_accuracy": np.float32(words[:, CORRECT].mean()),
        "next_sentence_loss": np.float32(following[:, 0].mean()),
        "next_sentence_accuracy": np.float32(following[:, 1].mean()),
    }


def vocabulary(flags: PretrainingFlags, start: InitialCheckpoint) -> Tokenizer | None:
    """The model folder's: `--vocab_file`, else what the source brings, else vocab.txt beside the checkpoint.

    Returns: None where there is none.

    Raises:
        InputError: a file that cannot be read, or that has more entries than the model.
    """
    if flags.vocab_file is None and start.tokenizer is not None:
        return start.tokenizer
    beside = Path(flags.init_checkpoint or flags.bert_config_file).parent / "vocab.txt"
    path = Path(flags.vocab_file or beside)
    if not path.is_file():
        return None
    lower = casing_of(read_vocabulary(path), [path.resolve().parent.name]).lower
    words = Tokenizer.from_vocab(path, do_lower_case=lower is not False)
    if words.vocab_size > start.config.vocab_size:
        raise InputError(
            f"{'--vocab_file ' if flags.vocab_file else ''}{path}: has {words.vocab_size} entries, but the model's "
            f"vocab_size is {start.config.vocab_size}; name the vocabulary that the data were made with by --vocab_file"
        )
    return words


def _save(
    flags: PretrainingFlags,
    network: Network,
    words: Tokenizer | None,
    place: tuple[Path, Data],
    provenance: Mapping[str, Any],
) -> None:
    """Write the model folder, where there is a vocabulary for it.

    place: output folder, data.  provenance: `encoder` and `flags`, as `save_model_folder` takes them.
    """
    if words is None:
        logger.warning("no vocabulary, so no model folder for bertune; name one with --vocab_file")
        return
    output, data = place
    read = data.instances.get("input_file")
    count = sum(map(count_records, data.files)) if read is None else len(read)
    provenance = {**provenance, "train": data.files[0], "rows": count}
    text = TextEncoding(words, flags.max_seq_length)
    save_model_folder(output / "bertune", network, Pretraining(next_sentence=True), text, provenance)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status."""
    return run_program(program, argv)


if __name__ == "__main__":
    sys.exit(main())
