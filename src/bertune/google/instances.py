"""Pre-training instances out of TFRecord files, as run_pretraining.py reads them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.features import IGNORED, Batch, Column, Features, pack
from bertune.data.ragged import IntArray, Ragged
from bertune.data.tfrecord import read_records
from bertune.errors import InputError

_BY_TOKEN = ("input_ids", "input_mask", "segment_ids")
_BY_MASK = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


@dataclass(frozen=True)
class Instances:
    """Masked pairs, in the files' order, without padding.

    input_ids, segment_ids: an entry a token.  positions, labels: of the masks, an entry a mask.
    next_sentence: 1 where B is random. Shape: (sequences,).
    """

    input_ids: Ragged
    segment_ids: Ragged
    positions: Ragged
    labels: Ragged
    next_sentence: IntArray

    def __len__(self) -> int:
        return len(self.input_ids)

    def batch(self, rows: npt.NDArray[np.int64]) -> Batch:
        """Some instances, packed, with targets `labels` (by token) and `next_sentence`."""
        ids, positions = self.input_ids.take(rows), self.positions.take(rows)
        marks = np.full(len(ids.values), IGNORED, np.int32)
        starts = np.repeat(ids.offsets[:-1], positions.lengths)
        marks[starts + positions.values] = self.labels.take(rows).values
        targets: dict[str, Column] = {"labels": Ragged(marks, ids.offsets), "next_sentence": self.next_sentence[rows]}
        numbers = np.arange(len(rows), dtype=np.int32)
        return pack(Features(ids, self.segment_ids.take(rows), numbers, targets), numbers)


def read_instances(files: Sequence[Path], max_seq_length: int, max_predictions: int, vocab_size: int) -> Instances:
    """All instances of some files.

    Raises:
        InputError: a broken file, or records of other lengths or another vocabulary than the flags and config say.
    """
    columns: tuple[list[IntArray], ...] = ([], [], [], [])
    following: list[int] = []
    for path in files:
        for number, record in enumerate(read_records(path)):
            where = f"{path}, record {number} (from 0)"
            _check(record, where, max_seq_length, max_predictions)
            for column, values in zip(columns, _trimmed(record, where, vocab_size), strict=True):
                column.append(values)
            following.append(int(record["next_sentence_labels"][0]))
    if not following:
        raise InputError(f"--input_file: {', '.join(map(str, files))}: no records in it")
    ids, segments, positions, labels = (Ragged.from_lists(column) for column in columns)
    return Instances(ids, segments, positions, labels, np.array(following, np.int32))


def _check(record: dict[str, npt.NDArray[Any]], where: str, max_seq_length: int, max_predictions: int) -> None:
    sizes = dict.fromkeys(_BY_TOKEN, max_seq_length) | dict.fromkeys(_BY_MASK, max_predictions)
    for name, size in {**sizes, "next_sentence_labels": 1}.items():
        flag = "--max_seq_length" if name in _BY_TOKEN else "--max_predictions_per_seq"
        if name not in record:
            raise InputError(f"{where}: has no {name}; is it a file of create_pretraining_data?")
        if len(record[name]) != size:
            hint = f"; the data were made with another {flag}" if name in sizes else ""
            raise InputError(f"{where}: {name} has {len(record[name])} values, expected {size}{hint}")


def _trimmed(record: dict[str, npt.NDArray[Any]], where: str, vocab_size: int) -> Iterator[IntArray]:
    """Ids, segments, masked positions and their words, without padding."""
    length = int((record["input_mask"] != 0).sum())
    real = record["masked_lm_weights"] != 0
    positions, labels = record["masked_lm_positions"][real], record["masked_lm_ids"][real]
    ids = record["input_ids"][:length]
    largest = max([int(part.max()) for part in (ids, labels) if len(part)], default=0)
    if largest >= vocab_size or min([int(part.min()) for part in (ids, labels) if len(part)], default=0) < 0:
        raise InputError(
            f"{where}: holds word {largest}, but the config's vocab_size is {vocab_size}; was it made with another "
            "vocabulary?"
        )
    if not length or (len(positions) and not 0 <= positions.min() <= positions.max() < length):
        raise InputError(f"{where}: masked positions do not lie within its {length} tokens")
    for values in (ids, record["segment_ids"][:length], positions, labels):
        yield values.astype(np.int32)
