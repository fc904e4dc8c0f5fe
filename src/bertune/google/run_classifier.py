"""`python -m bertune.google.run_classifier`: google-research/bert's program for sentences and pairs of sentences."""

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from bertune.distributed.world import current
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.features import Features
from bertune.google.checkpoints import write_text
from bertune.google.flags import parse_flags
from bertune.google.initial_checkpoint import (
    InitialCheckpoint,
    ModelFlags,
    check_positions,
    google_names,
    implied_by_source,
    open_initial_checkpoint,
)
from bertune.google.padding import record_columns
from bertune.google.processors import PROCESSORS, Part, Processor, path_of, processor_of, read_part
from bertune.google.running import (
    EpochFlags,
    RunFlags,
    Runtime,
    TrainFlags,
    build,
    leave_to_first,
    make_folder,
    run_program,
    save_model_folder,
    set_up,
    write_results,
)
from bertune.google.training import TrainingTarget, newest_or_start, steps_of, train
from bertune.inference.evaluation import infer
from bertune.network import Batch, Network, batch_loss, pack
from bertune.options import option
from bertune.progress import Curves, progress_bar
from bertune.tasks.protocol import Purpose
from bertune.tasks.registry import new_task
from bertune.tasks.text_classification import TextClassification, TextExample, softmax
from bertune.tensorflow_formats.tfrecord import write_records
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.rows import name_rows

logger = logging.getLogger("bertune.google.run_classifier")  # also when run by `python -m`

HEAD = ("text-classification",)
_SHOWN = 5
"""Examples that are logged in full."""


@dataclass(frozen=True)
class TaskFlags:
    """What run_classifier does, and on what."""

    data_dir: str = option(help="folder with the task's .tsv files")
    task_name: str = option(help=f"one of {', '.join(PROCESSORS)}")
    max_seq_length: int = option(128, help="longest sequence in word pieces, special ones included")
    do_train: bool = option(False, help="train on the training file")
    do_eval: bool = option(False, help="evaluate on the development file")
    do_predict: bool = option(False, help="predict the test file")
    eval_batch_size: int = option(8, help="examples of an evaluation batch; `loss` is the mean over batches")
    predict_batch_size: int = option(8, help="accepted; the result does not depend on it")
    xnli_language: str = option("zh", help="not in the original, where it is a constant: language of XNLI's files")

    def phases(self) -> dict[Part, bool]:
        """Which parts of the data are used."""
        return {"train": self.do_train, "dev": self.do_eval, "test": self.do_predict}


@dataclass(frozen=True)
class Job:
    """A classification run, checked and read.

    data: examples by part, of the phases that are asked for.
    recorded: parts whose features are also written as TFRecord files.
    """

    task: TextClassification
    flags: TaskFlags
    training: TrainFlags
    epochs: EpochFlags
    data: Mapping[Part, list[TextExample]]
    paths: Mapping[Part, Path]
    provided: Mapping[str, Any]
    recorded: tuple[Part, ...] = ("train", "dev", "test")

    @property
    def output(self) -> Path:
        """The output folder."""
        return Path(self.training.output_dir)


def program(argv: Sequence[str]) -> None:
    """The command's work, from its arguments."""
    trees = [TaskFlags, ModelFlags, TrainFlags, EpochFlags, RunFlags]
    flags = parse_flags("run_classifier", trees, argv, implied_by_source)
    run, model = flags.of(RunFlags), flags.of(ModelFlags)
    job = read_job(
        flags.of(TaskFlags), flags.of(TrainFlags), flags.of(EpochFlags), flags.provided, strict=run.strict_original
    )
    runtime = set_up(run)
    start = open_initial_checkpoint(model, strict=runtime.strict)
    check_positions(job.flags.max_seq_length, start.config)
    classify(job, start, runtime)


def read_job(
    flags: TaskFlags, training: TrainFlags, epochs: EpochFlags, provided: Mapping[str, Any], *, strict: bool
) -> Job:
    """Check the flags and read the data of every phase before anything is written.

    Raises:
        InputError: all problems at once.
    """
    problems = Problems()
    problems.extend([*training.problems(), *epochs.problems()])
    if not any(flags.phases().values()):
        problems.add("run_classifier: nothing to do; give at least one of --do_train, --do_eval, --do_predict")
    problems.extend(
        f"--{name}={getattr(flags, name)}: must be at least {low}"
        for name, low in (("max_seq_length", 3), ("eval_batch_size", 1))
        if getattr(flags, name) < low
    )
    data: dict[Part, list[TextExample]] = {}
    paths: dict[Part, Path] = {}
    name, processor = "", PROCESSORS["mrpc"]
    try:
        name, processor = processor_of(flags.task_name)
    except InputError as error:
        problems.add(str(error))
    if name == "xnli" and flags.do_predict and strict:
        problems.add("--do_predict: the original has no test file for xnli; leave --strict_original out")
    elif name:
        data, paths = _read_parts(processor, flags, problems)
    problems.raise_if_any()
    _warn_of_pitfalls(name, flags)
    made = cast(TextClassification, new_task(processor.name))
    task = dataclasses.replace(made, labels=processor.labels)
    return Job(task, flags, training, epochs, data, paths, provided)


def _read_parts(
    processor: Processor, flags: TaskFlags, problems: Problems
) -> tuple[dict[Part, list[TextExample]], dict[Part, Path]]:
    data: dict[Part, list[TextExample]] = {}
    paths: dict[Part, Path] = {}
    for part, wanted in flags.phases().items():
        if not wanted:
            continue
        paths[part] = path_of(processor, Path(flags.data_dir), part, flags.xnli_language)
        try:
            data[part] = read_part(processor, Path(flags.data_dir), part, flags.xnli_language)
        except InputError as error:
            problems.add(str(error))
    return data, paths


def _warn_of_pitfalls(name: str, flags: TaskFlags) -> None:
    """What the original passes over in silence."""
    if name == "mnli" and (flags.do_eval or flags.do_predict):
        logger.info("mnli: the matched files are read, as in the original; --task_name=mnli-mm reads the mismatched")
    if name == "xnli":
        logger.info("xnli: language %s; --xnli_language takes another", flags.xnli_language)


def classify(job: Job, start: InitialCheckpoint, runtime: Runtime) -> None:
    """Train, evaluate, predict, as far as asked."""
    make_folder(job.output)
    network = build(start, HEAD, job.task, runtime)
    words, names = start.words, google_names(start.config, HEAD)
    if job.flags.do_train:
        step = _train(job, network, words, start.source, runtime)
    else:
        step = newest_or_start(network, names, job.output)
    network.encoder.set_compute_dtype(runtime.dtype)
    if job.flags.do_eval:
        _evaluate(job, network, words, step)
    if job.flags.do_predict:
        _predict(job, network, words)


def _features(job: Job, part: Part, words: Tokenizer) -> Features:
    """Features of a part, also written as a TFRecord file; the first few examples are logged."""
    examples = job.data[part]
    purpose: Purpose = "predict" if part == "test" else "evaluate"
    features = job.task.featurize(examples, words, job.flags.max_seq_length, purpose=purpose)
    for index in range(min(_SHOWN, len(examples))):
        ids = features.input_ids[index]
        logger.info("*** Example *** guid: %s-%d", part, examples[index].place - 1)
        logger.info("tokens: %s", " ".join(words.tokens(ids)))
        logger.info("input_ids: %s  label: %s", " ".join(map(str, ids)), examples[index].label)
    cut = int(features.cut.sum())
    logger.info("%s: %d examples, %d of them cut at %d", job.paths[part], len(features), cut, job.flags.max_seq_length)
    if part not in job.recorded or not current().is_first:
        return features
    file = {"train": "train.tf_record", "dev": "eval.tf_record", "test": "predict.tf_record"}[part]
    write_records(job.output / file, (record(features, i, job.flags.max_seq_length) for i in range(len(features))))
    return features


def record(features: Features, index: int, width: int) -> dict[str, npt.NDArray[np.int64]]:
    """An example as the original's TFRecord files hold it; a label that is not known is 0."""
    label = features.targets.get("label")
    return record_columns(features.input_ids[index], features.segment_ids[index], width) | {
        "label_ids": np.array([0 if label is None else np.asarray(label)[index]], np.int64),
        "is_real_example": np.array([1], np.int64),
    }


def _train(job: Job, network: Network, words: Tokenizer, source: str, runtime: Runtime) -> int:
    features = _features(job, "train", words)

    def make_batch(rows: npt.NDArray[np.int64]) -> Batch:
        return pack(features, rows)

    def named(rows: npt.NDArray[np.int64]) -> str:
        return name_rows(job.paths["train"], job.data["train"], features.example_index[features.rows_of(rows)])

    logger.info("***** Running training *****  %d examples", len(features))
    logger.info("padding is left out of the computation; it changes no result here")
    training = steps_of(len(features), job.training, job.epochs)
    names = google_names(network.encoder.config, HEAD)
    step = train(
        runtime, TrainingTarget(network, names, len(features), make_batch, batch_loss(job.task.loss), named), training
    )
    provenance = {"encoder": source, "train": job.paths["train"], "rows": len(features), "flags": job.provided}
    save_model_folder(
        job.output / "bertune", network, job.task, TextEncoding(words, job.flags.max_seq_length), provenance
    )
    return step


def _logits(network: Network, features: Features, label: str) -> npt.NDArray[np.float32]:
    """Shape: (examples, labels)."""
    with progress_bar(label, len(features)) as bar, fast_float32(network.device):
        return np.stack(infer(network, features, advance=bar.advance, world=current()).logits)


def _evaluate(job: Job, network: Network, words: Tokenizer, step: int) -> None:
    features = _features(job, "dev", words)
    logits = _logits(network, features, "evaluating")
    truth = np.asarray(features.targets["label"], np.int64)
    results = evaluation(logits, truth, job.flags.eval_batch_size) | {"global_step": step}
    write_results(job.output / "eval_results.txt", results)
    if not current().is_first:
        return
    (job.output / "eval").mkdir(exist_ok=True)
    curves = Curves(job.output / "eval")
    curves.add({name: float(value) for name, value in results.items() if name != "global_step"}, step)
    curves.close()


def evaluation(
    logits: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], batch_size: int
) -> dict[str, np.float32 | int]:
    """The original's figures: accuracy, loss by example, and `loss`, the mean of the batches' mean losses."""
    losses = F.cross_entropy(torch.from_numpy(logits), torch.from_numpy(truth), reduction="none").numpy()
    batches = [losses[start : start + batch_size].mean() for start in range(0, len(losses), batch_size)]
    return {
        "eval_accuracy": np.float32((logits.argmax(1) == truth).mean()),
        "eval_loss": np.float32(losses.mean()),
        "loss": np.float32(np.mean(batches)),
    }


def _predict(job: Job, network: Network, words: Tokenizer) -> None:
    features = _features(job, "test", words)
    logits = _logits(network, features, "predicting")
    leave_to_first()
    probabilities = softmax(logits).astype(np.float32)
    lines = ("\t".join(str(value) for value in row) + "\n" for row in probabilities)
    path = job.output / "test_results.tsv"
    write_text(path, "".join(lines))
    logger.info("%s: probabilities, the columns are %s", path, ", ".join(job.task.labels))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status."""
    return run_program(program, argv)


if __name__ == "__main__":
    sys.exit(main())
