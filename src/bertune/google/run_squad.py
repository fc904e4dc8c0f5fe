"""`python -m bertune.google.run_squad`: google-research/bert's program for reading comprehension."""

import logging
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.distributed.world import current
from bertune.encoder.float32_route import fast_float32
from bertune.errors import InputError, Problems
from bertune.features import Features
from bertune.google.flags import parse_flags
from bertune.google.initial_checkpoint import (
    InitialCheckpoint,
    ModelFlags,
    check_positions,
    google_names,
    implied_by_source,
    open_initial_checkpoint,
)
from bertune.google.padding import infer_padded, pad, record_columns
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
)
from bertune.google.squad_decoding import (
    GoogleDecoding,
    GooglePredictions,
    google_decode,
    write_google_predictions,
)
from bertune.google.squad_exact import GoogleExample, GoogleFeatures, google_examples, google_features
from bertune.google.training import TrainingTarget, newest_or_start, steps_of, train
from bertune.inference.evaluation import infer
from bertune.network import Batch, Network, pack
from bertune.options import option
from bertune.tasks.options import QuestionOptions
from bertune.tasks.question_answering import QuestionAnswering
from bertune.tasks.squad.head import span_loss
from bertune.tasks.squad.metrics import evaluate, threshold_to_apply
from bertune.tasks.squad.reading import QuestionExample, read_questions
from bertune.tasks.squad.windows import check_lengths
from bertune.tensorflow_formats.tfrecord import write_records
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger("bertune.google.run_squad")  # also when run by `python -m`

HEAD = ("question-answering",)
_SHUFFLE_SEED = 12345
_SHOWN = 20
"""Windows that are logged."""


@dataclass(frozen=True)
class SquadFlags:
    """What run_squad does, and on what."""

    train_file: str | None = option(None, help="SQuAD JSON; needed with --do_train")
    predict_file: str | None = option(None, help="SQuAD JSON; needed with --do_predict")
    max_seq_length: int = option(384, help="tokens of a window, special ones included")
    doc_stride: int = option(128, help="tokens from one window's start to the next")
    max_query_length: int = option(64, help="tokens of the question that are kept")
    do_train: bool = option(False, help="train on the training file")
    do_predict: bool = option(False, help="answer the questions of the other file")
    predict_batch_size: int = option(8, help="accepted; the result does not depend on it")
    n_best_size: int = option(20, help="candidates kept a question")
    max_answer_length: int = option(30, help="tokens of the longest answer")
    verbose_logging: bool = option(False, help="name every question whose answer is not found")
    version_2_with_negative: bool = option(False, help="SQuAD 2.0: some questions have no answer")
    null_score_diff_threshold: float = option(0.0, help='answer "" when that scores this much above the best span')
    skip_padding: bool = option(
        False, help="not in the original: leave padding out of softmax and computation; faster, nearly the same"
    )

    def problems(self) -> list[str]:
        """What no run can start with."""
        found = []
        if not (self.do_train or self.do_predict):
            found.append("run_squad: nothing to do; give at least one of --do_train, --do_predict")
        for phase, name in (("do_train", "train_file"), ("do_predict", "predict_file")):
            path = getattr(self, name)
            if getattr(self, phase) and not path:
                found.append(f"--{phase}: needs --{name}, a SQuAD JSON file")
            elif getattr(self, phase) and not Path(path).is_file():
                found.append(f"--{name} {path}: no such file")
        found += [
            f"--{name}={getattr(self, name)}: must be at least 1"
            for name in ("n_best_size", "max_answer_length")
            if getattr(self, name) < 1
        ]
        try:
            check_lengths(self.max_seq_length, self.doc_stride, self.max_query_length)
        except InputError as error:
            found.append(str(error))
        return found


@dataclass(frozen=True)
class Job:
    """A run, its flags checked."""

    flags: SquadFlags
    training: TrainFlags
    epochs: EpochFlags
    provided: Mapping[str, Any]

    @property
    def output(self) -> Path:
        """The output folder."""
        return Path(self.training.output_dir)


def program(argv: Sequence[str]) -> None:
    """The command's work, from its arguments."""
    trees = [SquadFlags, ModelFlags, TrainFlags, EpochFlags, RunFlags]
    flags = parse_flags("run_squad", trees, argv, implied_by_source)
    job = Job(flags.of(SquadFlags), flags.of(TrainFlags), flags.of(EpochFlags), flags.provided)
    problems = Problems()
    problems.extend([*job.flags.problems(), *job.training.problems(), *job.epochs.problems()])
    problems.raise_if_any()
    run = flags.of(RunFlags)
    strict = run.strict_original
    trained = read_file(job.flags.train_file, job.flags, training=True, strict=strict) if job.flags.do_train else []
    to_predict = (
        read_file(job.flags.predict_file, job.flags, training=False, strict=strict) if job.flags.do_predict else []
    )
    runtime = set_up(run)
    start = open_initial_checkpoint(flags.of(ModelFlags), strict=runtime.strict)
    check_positions(job.flags.max_seq_length, start.config)
    make_folder(job.output)
    network = _network(start, runtime)
    if job.flags.do_train:
        _train(job, network, start, trained, runtime)
    else:
        newest_or_start(network, google_names(start.config, HEAD), job.output)
    network.encoder.set_compute_dtype(runtime.dtype)
    if job.flags.do_predict:
        _predict(job, network, start.words, to_predict)


def _network(start: InitialCheckpoint, runtime: Runtime) -> Network:
    network = build(start, HEAD, QuestionAnswering(), runtime)
    # The pooler is part of the original's model, too, but no gradient reaches it: neither steps nor decay change it.
    network.encoder.pooler.requires_grad_(False)
    return network


def read_file(path: str | None, flags: SquadFlags, *, training: bool, strict: bool) -> list[GoogleExample]:
    """Questions as the original reads them; training questions in its fixed shuffled order.

    Of several answers training takes the first; the original, and so `strict`, refuses such files.

    Raises:
        InputError: a broken file, or answers that training cannot use.
    """
    questions, _ = read_questions(str(path), labelled=training, strict=False)
    several = sum(len(question.answers) > 1 for question in questions) if training and not strict else 0
    if several:
        logger.warning("%s: %d questions have several answers; training takes the first of each", path, several)
        questions = [replace(question, answers=question.answers[:1]) for question in questions]
    examples, skipped = google_examples(questions, training=training, version_2=flags.version_2_with_negative)
    if skipped:
        shown = skipped if flags.verbose_logging else skipped[:5]
        more = f" and {len(skipped) - len(shown)} more" if len(skipped) > len(shown) else ""
        logger.warning("%s: could not find the answers of %s%s; left out", path, ", ".join(shown), more)
    if training:
        if not examples:
            raise InputError(f"--train_file {path}: no question is left to train on")
        random.Random(_SHUFFLE_SEED).shuffle(examples)
    return examples


def _features(job: Job, examples: list[GoogleExample], words: Tokenizer, *, training: bool) -> GoogleFeatures:
    flags = job.flags
    found = google_features(
        examples,
        words,
        training=training,
        max_seq_length=flags.max_seq_length,
        doc_stride=flags.doc_stride,
        max_query_length=flags.max_query_length,
    )
    for index in range(min(_SHOWN, len(found))):
        tokens = " ".join(words.tokens(found.input_ids[index]))
        logger.info("*** Example *** unique_id: %d  tokens: %s", found.unique_id[index], tokens)
    share = 1 - len(found.input_ids.values) / max(1, len(found) * flags.max_seq_length)
    logger.info("%d questions, %d windows, %.0f %% padding", len(examples), len(found), 100 * share)
    if current().is_first:
        path = job.output / ("train.tf_record" if training else "eval.tf_record")
        write_records(path, records(found, flags.max_seq_length, training=training))
    return found


def records(found: GoogleFeatures, width: int, *, training: bool) -> Iterator[dict[str, npt.NDArray[np.int64]]]:
    """Windows as the original's TFRecord files hold them."""
    for index in range(len(found)):
        record = {"unique_ids": np.array([found.unique_id[index]], np.int64)}
        record |= record_columns(found.input_ids[index], found.segment_ids[index], width)
        if training:
            record |= {
                "start_positions": np.array([found.start_position[index]], np.int64),
                "end_positions": np.array([found.end_position[index]], np.int64),
                "is_impossible": np.array([found.is_impossible[index]], np.int64),
            }
        yield record


def _columns(found: GoogleFeatures) -> Features:
    targets = {"start": found.start_position, "end": found.end_position}
    return Features(found.input_ids, found.segment_ids, found.example_index, targets)


def _train(
    job: Job, network: Network, start: InitialCheckpoint, examples: list[GoogleExample], runtime: Runtime
) -> None:
    width, packed = job.flags.max_seq_length, job.flags.skip_padding
    found = _features(job, examples, start.words, training=True)
    features = _columns(found)
    if not packed:
        logger.info("the softmax runs over padding too, as in the original; --skip_padding leaves it out and is faster")

    def make_batch(rows: npt.NDArray[np.int64]) -> Batch:
        return pack(features, rows) if packed else pad(features, rows, width)

    def loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        first, last = batch.targets["start"], batch.targets["end"]
        value = span_loss(logits, first, last, batch.layout, over_padding=not packed)
        return value, torch.tensor(first.numel())

    def named(rows: npt.NDArray[np.int64]) -> str:
        questions = dict.fromkeys(examples[index].id for index in found.example_index[np.sort(rows)])
        return f"{job.flags.train_file}, questions {', '.join(questions)}"

    training = steps_of(len(examples), job.training, job.epochs)
    names = google_names(start.config, HEAD)
    train(runtime, TrainingTarget(network, names, len(features), make_batch, loss, named), training)
    options = QuestionOptions(
        doc_stride=job.flags.doc_stride,
        max_query_length=job.flags.max_query_length,
        max_answer_length=job.flags.max_answer_length,
        n_best=job.flags.n_best_size,
    )
    task = QuestionAnswering(
        options=options,
        has_unanswerable=job.flags.version_2_with_negative,
        tuned_threshold=job.flags.null_score_diff_threshold,
    )
    provenance = {"encoder": start.source, "train": job.flags.train_file, "rows": len(examples), "flags": job.provided}
    save_model_folder(job.output / "bertune", network, task, TextEncoding(start.words, width), provenance)


def _predict(job: Job, network: Network, words: Tokenizer, examples: list[GoogleExample]) -> None:
    flags = job.flags
    found = _features(job, examples, words, training=False)
    with fast_float32(network.device):
        if flags.skip_padding:
            rows: Sequence[npt.NDArray[np.float32]] = infer(network, _columns(found), world=current()).logits
        else:
            rows = infer_padded(network, _columns(found), flags.max_seq_length, world=current())
    leave_to_first()
    decoding = GoogleDecoding(
        flags.n_best_size,
        flags.max_answer_length,
        flags.version_2_with_negative,
        flags.null_score_diff_threshold,
    )
    starts, ends = [row[:, 0] for row in rows], [row[:, 1] for row in rows]
    result = google_decode(examples, found, starts, ends, words, decoding)
    paths = [job.output / name for name in ("predictions.json", "nbest_predictions.json", "null_odds.json")]
    odds = paths[2] if flags.version_2_with_negative else None
    write_google_predictions(result, paths[0], paths[1], odds)
    for path in paths[: 3 if odds else 2]:
        logger.info("%s: written, %d questions", path, len(result.predictions))
    bare = sum(not any(entry.text for entry in found) for found in result.nbest.values())
    if bare and odds:
        logger.info("%d questions have no candidate but the empty answer; the original crashes on them", bare)
    _score(flags, result)


def _score(flags: SquadFlags, result: GooglePredictions) -> None:
    """The official scores in the log, where the file has answers; the original leaves them to another program."""
    try:
        questions, _ = read_questions(str(flags.predict_file), labelled=True, strict=False)
    except InputError:
        return
    if not any(question.answers for question in questions):
        return
    scores = scores_of(questions, result, version_2=flags.version_2_with_negative)
    text = (f"{name} {value}" if name.endswith("thresh") else f"{name} {value:.4f}" for name, value in scores.items())
    logger.info("scores: %s", "  ".join(text))
    if "best_f1_thresh" in scores:
        threshold, best = threshold_to_apply(questions, result.null_odds, _spans(result))
        logger.info("the best f1, %.4f, comes with --null_score_diff_threshold=%s", best, threshold)


def scores_of(questions: Sequence[QuestionExample], result: GooglePredictions, *, version_2: bool) -> dict[str, float]:
    """exact_match and f1 in per cent; with version_2 also the parts and the best thresholds."""
    spans = _spans(result)
    odds = result.null_odds if version_2 else None
    found = evaluate(questions, result.predictions, odds, spans if version_2 else None)
    return {name: float(value) for name, value in found.items()}


def _spans(result: GooglePredictions) -> dict[str, str]:
    """The best answer that is not empty, by question; "" where there is none."""
    return {name: next((entry.text for entry in found if entry.text), "") for name, found in result.nbest.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status."""
    return run_program(program, argv)


if __name__ == "__main__":
    sys.exit(main())
