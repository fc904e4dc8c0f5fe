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
from bertune.checkpoints.source import Checkpoint, open_checkpoint
from bertune.data.features import Features
from bertune.errors import InputError, Problems
from bertune.model.provenance import encoder_sha256
from bertune.model.use import read_hashed
from bertune.tasks.feature_cache import Source, featurized
from bertune.tasks.protocol import Purpose, Task
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.unknown import warn_of_unknown
from bertune.training.options import TrainOptions

logger = logging.getLogger(__name__)

_WORK = {"train": "train on", "validation": "evaluate"}


@dataclass(frozen=True)
class Labelled:
    """The examples of one file, and its hash from before they were read."""

    source: Source
    examples: list[Any]

    @classmethod
    def read(cls, task: Task[Any], path: Path) -> "Labelled":
        """A whole file.

        Raises:
            InputError: unreadable rows, or none at all; a file that changed meanwhile.
        """
        return cls(*read_hashed(task, path))


@dataclass(frozen=True)
class Split:
    """The examples of one file (training, validation), their features, and the file's hash when it was read."""

    path: Path
    examples: list[Any]
    features: Features
    sha256: str

    @property
    def units(self) -> int:
        """How many units batches are made of (see `Features.unit_lengths`)."""
        return len(self.features.unit_lengths)

    def examples_of(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.integer]:
        """The examples that some units come from. Shape: (sequences of the units,)."""
        return self.features.example_index[self.features.rows_of(units)]

    def describe(self) -> dict[str, Any]:
        """For the record: file, rows, hash."""
        described: dict[str, Any] = {"file": str(self.path), "rows": len(self.examples), "sha256": self.sha256}
        paired = not self.features.together and all(getattr(example, "pair", None) for example in self.examples)
        return described | ({"pairs": True} if paired else {})


@dataclass(frozen=True)
class PreparedData:
    """All that a run needs besides its network: a value that any number of runs may share.

    task: with what the training data taught it.
    task_options: the task's own, as they were given.
    splits: by "train" and "validation".
    encoder: SHA-256 of the encoder that the features are made for.
    """

    task: Task[Any]
    task_options: Mapping[str, Any]
    tokenizer: Tokenizer
    max_seq_length: int
    splits: Mapping[str, Split]
    encoder: str

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
    with open_checkpoint(options.encoder) as checkpoint:
        return _prepared(task, read, checkpoint, options)


def _prepared(
    task: Task[Any], read: Mapping[str, Labelled], checkpoint: Checkpoint, options: TrainOptions
) -> PreparedData:
    problems = Problems()
    length, positions = (
        options.max_seq_length or task.defaults.max_seq_length,
        checkpoint.config.max_position_embeddings,
    )
    if length > positions:
        problems.add(f"--max-seq-length {length}: {options.encoder} has only {positions} positions")
    own = dataclasses.asdict(task.options)
    paths = {role: one.source.path for role, one in read.items()}
    try:
        task = task.fit(read["train"].examples, path=paths["train"], settings=checkpoint.settings)
        for role, one in read.items():
            problems.extend(task.problems(one.examples, paths[role]))
    except InputError as error:
        problems.add(str(error))
    problems.raise_if_any()
    log_findings(task, {role: one.examples for role, one in read.items()}, paths)
    splits = {}
    text = (checkpoint.tokenizer, length)
    for role, one in read.items():
        purpose: Purpose = "train" if role == "train" else "evaluate"
        source = one.source if options.feature_cache else None
        features = featurized(task, one.examples, text, purpose=purpose, source=source)
        _log_truncation(paths[role], len(one.examples), length, features)
        if not len(features):
            raise InputError(
                f"--{role} {paths[role]}: none of its {len(one.examples)} examples gives a sequence to {_WORK[role]}; "
                "in question answering no answer occurs in its context (compare answer_start, or try --fix-offsets)"
            )
        warn_of_unknown(features.input_ids, checkpoint.tokenizer, str(paths[role]))
        splits[role] = Split(paths[role], one.examples, features, one.source.sha256)
    encoder = encoder_sha256(checkpoint.config, checkpoint.tensors, checkpoint.tokenizer)
    return PreparedData(task, own, checkpoint.tokenizer, length, splits, encoder)


def _log_truncation(path: Path, rows: int, length: int, features: Features) -> None:
    """One line: how many rows there are and how many lose text to the length limit."""
    cut = int(features.cut.sum())
    share = f"{cut} ({100 * cut / max(1, len(features)):.1f} %) are cut" if cut else "none is cut"
    logger.info("%s: %d rows; %s at --max-seq-length %d", path, rows, share, length)
