"""Ready-made pre-training instances: TFRecord files of create_pretraining_data.py as one matrix mapped from disk."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.features import IGNORED, Features, Ragged
from bertune.files.atomic_write import unwritable
from bertune.pretraining.token_corpus import release
from bertune.progress import progress_bar
from bertune.tensorflow_formats.tfrecord import read_records

_VERSION = 1
_TOKENS = ("input_ids", "input_mask", "segment_ids")
_MASKS = ("masked_lm_positions", "masked_lm_ids", "masked_lm_weights")


@dataclass(frozen=True)
class Instances:
    """Masked pairs as they were written; their masks are the same in every epoch.

    rows: ids, segments, positions, labels (IGNORED without weight), length, next sentence. Shape: (instances, width).
    length: tokens of an instance, padding included.  masks: most masked tokens.
    """

    rows: npt.NDArray[np.int32]
    length: int
    masks: int

    def __len__(self) -> int:
        return len(self.rows)

    def features(self, rows: npt.NDArray[np.int64], *, next_sentence: bool) -> Features:
        """Some instances without their padding, with the targets of pre-training."""
        chosen = np.asarray(self.rows[rows])
        release(self.rows)  # else the pages of an epoch would add up in the process
        bounds = np.cumsum([self.length, self.length, self.masks, self.masks])
        ids, segments, positions, labels, rest = np.split(chosen, bounds, axis=1)
        real = np.arange(self.length) < rest[:, :1]
        marks = np.full(ids.shape, IGNORED, np.int32)
        sequence, place = np.nonzero(labels != IGNORED)
        marks[sequence, positions[sequence, place]] = labels[sequence, place]
        ragged = Ragged.from_lengths(ids[real], rest[:, 0])
        return Features(
            ragged,
            Ragged(segments[real], ragged.offsets),
            np.arange(len(chosen), dtype=np.int32),
            {"labels": Ragged(marks[real], ragged.offsets)} | ({"next_sentence": rest[:, 1]} if next_sentence else {}),
        )


def open_instances(files: Sequence[Path], cache: Path, vocabulary: int) -> Instances:
    """The instances of some TFRecord files, turned into a matrix on disk once.

    Args:
        files: all of one length.
        cache: folder for the matrix, which is found again by the files' hashes.
        vocabulary: ids must lie below this.

    Raises:
        InputError: a broken file, a missing feature, another length than the first record's, an id or position that
            cannot be; the file and the record are named.
        FaultError: the disk of the cache failed.
    """
    hashes = {"version": _VERSION, "files": [file_sha256(path) for path in files], "vocabulary": vocabulary}
    folder = cache / hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()[:32]
    target, about = folder / "instances.int32", folder / "instances.json"
    try:
        if not about.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            beside = folder / f".instances.{os.getpid()}"
            try:
                with beside.open("wb") as file:
                    for row, size in _rows(files, vocabulary):
                        file.write(row.tobytes())
                        sizes = {"length": size[0], "masks": size[1]}
                beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)
            beside.write_text(json.dumps(sizes), encoding="utf-8")
            beside.replace(about)
        described = json.loads(about.read_text(encoding="utf-8"))
        length, masks = int(described["length"]), int(described["masks"])
        rows = np.asarray(np.memmap(target, np.int32, mode="r").reshape(-1, 2 * length + 2 * masks + 2))
    except OSError as error:
        message = f"{error.filename or folder}: cannot be written or read: {error.strerror or error}"
        raise unwritable(error, message) from None
    except (ValueError, KeyError) as error:
        raise InputError(f"{folder}: damaged ({error}); remove this folder, and it is built again") from None
    return Instances(rows, length, masks)


def _rows(files: Sequence[Path], vocabulary: int) -> Iterator[tuple[npt.NDArray[np.int32], tuple[int, int]]]:
    """Every instance as a row of the matrix, with the lengths of all of them."""
    size: tuple[int, int] | None = None
    with progress_bar("reading instances (files)", len(files)) as bar:
        for path in files:
            for number, record in enumerate(read_records(path)):
                where = f"{path}, record {number} (from 0)"
                found = _lengths(record, where)
                if size is None:
                    size = found
                if found != size:
                    raise InputError(
                        f"{where}: has {found[0]} tokens and room for {found[1]} masks, but the records before have "
                        f"{size[0]} and {size[1]}; train on files of one length at a time"
                    )
                yield _row(record, vocabulary, where), size
            bar.advance()
    if size is None:
        raise InputError(f"{', '.join(map(str, files[:5]))}: holds no instances")


def _lengths(record: Mapping[str, npt.NDArray[Any]], where: str) -> tuple[int, int]:
    missing = [name for name in (*_TOKENS, *_MASKS, "next_sentence_labels") if name not in record]
    if missing:
        raise InputError(
            f"{where}: lacks {', '.join(missing)}; it has {', '.join(record)}. Instances for pre-training are written "
            "by create_pretraining_data"
        )
    tokens, masks = ({len(record[name]) for name in names} for names in (_TOKENS, _MASKS))
    if len(tokens) > 1 or len(masks) > 1 or len(record["next_sentence_labels"]) != 1:
        sizes = ", ".join(f"{name} {len(values)}" for name, values in record.items())
        raise InputError(f"{where}: its features do not fit together: {sizes}")
    return tokens.pop(), masks.pop()


def _row(record: Mapping[str, npt.NDArray[Any]], vocabulary: int, where: str) -> npt.NDArray[np.int32]:
    length = int(np.sum(record["input_mask"]))
    labels = np.where(record["masked_lm_weights"] > 0, record["masked_lm_ids"], IGNORED)
    for name, values, limit in (
        ("input_ids", record["input_ids"], vocabulary),
        ("masked_lm_ids", record["masked_lm_ids"], vocabulary),
        ("masked_lm_positions", record["masked_lm_positions"], max(length, 1)),
        ("next_sentence_labels", record["next_sentence_labels"], 2),
    ):
        wrong = values[(values < 0) | (values >= limit)]
        if len(wrong):
            raise InputError(f"{where}: {name} holds {wrong[0]}, but must lie between 0 and {limit - 1}")
    parts = [record["input_ids"], record["segment_ids"], record["masked_lm_positions"], labels]
    return np.concatenate([*parts, [length], record["next_sentence_labels"]]).astype(np.int32)
