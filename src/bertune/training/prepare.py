"""From data files to prepared data: examples, the task fitted to them, features."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.checking.doctor import log_findings
from bertune.checkpoints.sentence_transformers import read_sentence_folder
from bertune.checkpoints.source import Checkpoint, SourceOptions, open_checkpoint, positions_of, require_source
from bertune.errors import InputError, Problems, counted
from bertune.features import Features
from bertune.model.pairs import all_pairs, check_pairs
from bertune.model.provenance import encoder_sha256
from bertune.tasks.feature_cache import featurized
from bertune.tasks.labelled import Labelled as Labelled  # noqa: PLC0414 (its home before)
from bertune.tasks.protocol import Purpose, Task
from bertune.tasks.shared.folder_pooling import SENTENCE_MODULES
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.unknown import mostly_unknown, unknown_share, warn_of_unknown
from bertune.training.options import TrainOptions
from bertune.training.rows import name_rows

logger = logging.getLogger(__name__)

_NAMES = {"train": "training", "validation": "validation"}
_WORK = {"train": "train on", "validation": "evaluate"}


@dataclass(frozen=True)
class Split:
    """The examples of one role (training, validation), their features, and the hash of their files when they were read.

    path: of the file; of several, one for messages.
    labelled: where the examples come from, file by file; None: all from `path`.
    """

    path: Path
    examples: list[Any]
    features: Features
    sha256: str
    labelled: Labelled | None = None

    @property
    def units(self) -> int:
        """How many units batches are made of (see `Features.unit_lengths`)."""
        return len(self.features.unit_lengths)

    def examples_of(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
        """The examples that some units come from. Shape: (sequences of the units,)."""
        return self.features.example_index[self.features.rows_of(units)]

    def describe(self) -> dict[str, Any]:
        """For the record: files, rows, hashes, and whether all examples are pairs of texts, or none."""
        described: dict[str, Any] = {"file": str(self.path), "rows": len(self.examples), "sha256": self.sha256}
        if self.labelled is not None:
            described = dict(self.labelled.describe())
        pairs = None if self.features.together else all_pairs(self.examples)
        return described | ({} if pairs is None else {"pairs": pairs})

    def inputs(self, role: str) -> dict[str, str]:
        """Hashes by option and path, to compare when a run is resumed; none of rows that are held out of others."""
        if self.labelled is None:
            return {f"--{role} {self.path}": self.sha256}
        held = self.labelled.held_out
        return {} if held is not None and role != "train" else self.labelled.inputs(f"--{role}")

    def name_rows(self, units: npt.NDArray[np.int64]) -> str:
        """Where the examples of some units stand in their files."""
        chosen = self.examples_of(units)
        parts = [(self.path, chosen)] if self.labelled is None else self.labelled.by_part(chosen)
        return "; ".join(name_rows(path, self.examples, some) for path, some in parts)


@dataclass(frozen=True)
class PreparedData:
    """All that a run needs besides its network: a value that any number of runs may share.

    task: with what the training data taught it.
    task_options: the task's own, as they were given.
    splits: by "train" and "validation".
    encoder: SHA-256 of the encoder that the features are made for.
    drops_by_example: as `training.launch.TrainingJob`; False for all runs on these data, where an older version began.
    """

    task: Task[Any]
    task_options: Mapping[str, Any]
    tokenizer: Tokenizer
    max_seq_length: int
    splits: Mapping[str, Split]
    encoder: str
    drops_by_example: bool = True

    @property
    def train(self) -> Split:
        """What is trained on."""
        return self.splits["train"]

    @property
    def validation(self) -> Split | None:
        """What picks the best model, where there is some."""
        return self.splits.get("validation")


def prepare(task: Task[Any], read: Mapping[str, Labelled], options: TrainOptions) -> PreparedData:
    """Fit the task to the training data and tokenize; logs how much is cut.

    Args:
        task: as the options ask for it.
        read: the examples, by "train" and "validation".
        options: of the run, with the task's defaults filled in.

    Raises:
        InputError: all problems at once.
    """
    with open_checkpoint(options.encoder, options=source_options(options)) as checkpoint:
        return _prepared(task, read, checkpoint, options)


def source_problems(encoder: str | None) -> list[str]:
    """Why there is no such encoder, to be reported together with what is wrong with options and data."""
    try:
        if encoder is not None:
            require_source(encoder)
    except InputError as error:
        return [str(error)]
    return []


def length_problems(options: TrainOptions, task: Task[Any]) -> list[str]:
    """Why sequences may not be so long, where a config alone tells; the others are found when the encoder is opened."""
    positions = positions_of(options.encoder)
    return [] if positions is None else _too_long(options, task, positions)


def _too_long(options: TrainOptions, task: Task[Any], positions: int) -> list[str]:
    length = options.max_seq_length or task.defaults.max_seq_length
    return (
        [f"--max-seq-length {length}: {options.encoder} has only {positions} positions"] if length > positions else []
    )


def source_options(options: TrainOptions) -> SourceOptions:
    """What the options say of the encoder that its files do not."""
    return SourceOptions(do_lower_case=options.do_lower_case)


def _prepared(
    task: Task[Any], read: Mapping[str, Labelled], checkpoint: Checkpoint, options: TrainOptions
) -> PreparedData:
    problems = Problems()
    length = options.max_seq_length or task.defaults.max_seq_length
    problems.extend(_too_long(options, task, checkpoint.config.max_position_embeddings))
    own = dataclasses.asdict(task.options)
    paths = {role: one.path for role, one in read.items()}
    try:
        task = task.fit(read["train"].examples, path=paths["train"], settings=_settings(task, checkpoint))
        for one in read.values():
            problems.extend(one.problems(task))
        if "validation" in read:
            check_pairs(all_pairs(read["train"].examples), read["validation"].examples, paths["validation"])
    except InputError as error:
        problems.add(str(error))
    problems.raise_if_any()
    for role, survey in log_findings(task, read).items():
        logger.info("%s data, %s: %s", _NAMES[role], paths[role], survey.labels_in_words())
    splits = {}
    text = TextEncoding(checkpoint.tokenizer, length)
    for role, one in read.items():
        purpose: Purpose = "train" if role == "train" else "evaluate"
        source = one.source if options.feature_cache else None
        features = featurized(task, one.examples, text, purpose=purpose, source=source)
        _log_features(
            f"{_NAMES[role]} data, {paths[role]}", len(one.examples), (checkpoint.tokenizer, length), features
        )
        if not len(features):
            raise InputError(
                f"--{role} {paths[role]}: none of its {len(one.examples)} examples gives a sequence to {_WORK[role]}; "
                "in question answering no answer occurs in its context (compare answer_start, or try --fix-offsets)"
            )
        warn_of_unknown(features.input_ids, checkpoint.tokenizer, str(paths[role]))
        splits[role] = Split(paths[role], one.examples, features, one.source.sha256, one)
    encoder = encoder_sha256(checkpoint.config, checkpoint.tensors, checkpoint.tokenizer)
    return PreparedData(task, own, checkpoint.tokenizer, length, splits, encoder)


def _settings(task: Task[Any], checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The checkpoint's own configuration, with its sentence modules for a task that looks at them.

    Those are tasks whose answers are vectors, and heads that choose what they read (`--pooling auto`).

    Raises:
        InputError: a module that is not supported, where vectors are answered.
    """
    gives_vectors = getattr(task, "logit_kind", None) == "vector"
    chooses = getattr(task.options, "pooling", None) == "auto" and checkpoint.config.type_vocab_size > 1
    if not gives_vectors and not chooses:
        return checkpoint.settings
    try:
        modules = read_sentence_folder(checkpoint.folder, checkpoint.path).modules or ()
    except InputError:
        if gives_vectors:
            raise
        return checkpoint.settings
    return {**checkpoint.settings, SENTENCE_MODULES: [{"kind": one.kind, **one.config} for one in modules]}


def _log_features(data: str, rows: int, text: tuple[Tokenizer, int], features: Features) -> None:
    """One line: rows, how many lose text to the length limit, and the share of tokens that the vocabulary lacks."""
    tokenizer, length = text
    cut = int(features.cut.sum())
    share = f"{cut} ({100 * cut / max(1, len(features)):.1f} %) are cut" if cut else "none is cut"
    unknown = 100 * unknown_share(features.input_ids, tokenizer)
    foreign = mostly_unknown(features.input_ids, tokenizer)
    where = f", nearly all in {counted(foreign, 'sequence')}, perhaps of another language" if foreign else ""
    logger.info(
        "%s: %s; %s at --max-seq-length %d; %.1f %% of the tokens are unknown%s",
        data, counted(rows, "row"), share, length, unknown, where,
    )  # fmt: skip
