"""Sequences padded to one length: for record files, and where google-research/bert's padding takes part in a result."""

import itertools

import numpy as np
import numpy.typing as npt
import torch

from bertune.distributed.world import ALONE, World
from bertune.encoder.layout import Layout
from bertune.features import Features, Ragged
from bertune.inference.evaluation import MAX_TOKENS, run_batches
from bertune.network import Batch, Network
from bertune.progress import progress_bar


def pad(features: Features, rows: npt.NDArray[np.integer], width: int) -> Batch:
    """The features at `rows`, padded with zeros to `width` tokens each. Only targets by sequence are laid out."""
    ids = features.input_ids.take(rows)
    targets = {
        name: torch.from_numpy(np.asarray(column)[rows]).long()
        for name, column in features.targets.items()
        if not isinstance(column, Ragged)
    }
    return Batch(
        torch.from_numpy(padded(ids, width)).reshape(-1),
        torch.from_numpy(padded(features.segment_ids.take(rows), width)).reshape(-1),
        torch.arange(width).repeat(len(rows)),
        Layout.padded(ids.lengths.tolist(), width),
        targets,
        np.asarray(rows, np.int64),
    )


def record_columns(
    ids: npt.NDArray[np.integer], segments: npt.NDArray[np.integer], width: int
) -> dict[str, npt.NDArray[np.int64]]:
    """What the original's TFRecord files hold of a sequence: ids, mask and segments, zeros behind its end."""
    table = np.zeros((3, width), np.int64)
    table[0, : len(ids)], table[1, : len(ids)], table[2, : len(ids)] = ids, 1, segments
    return {"input_ids": table[0], "input_mask": table[1], "segment_ids": table[2]}


def padded(column: Ragged, width: int) -> npt.NDArray[np.int64]:
    """A column as a table, zeros behind every end. Shape: (sequences, width)."""
    table = np.zeros((len(column), width), np.int64)
    table[np.arange(width) < column.lengths[:, None]] = column.values
    return table


def infer_padded(
    network: Network, features: Features, width: int, world: World = ALONE
) -> list[npt.NDArray[np.float32]]:
    """Logits of every position, padding included, in the features' order. Shape: (width, outputs) each.

    world: ranks that share the batches; all of them get all results.
    """
    size = max(1, MAX_TOKENS // width)
    rows = [np.arange(start, min(start + size, len(features))) for start in range(0, len(features), size)]
    mine = rows[world.rank :: world.size]
    found: list[tuple[int, npt.NDArray[np.float32]]] = []
    with progress_bar("predicting", len(features)) as bar:
        for output in run_batches(network, (pad(features, some, width) for some in mine)):
            logits = output.logits.reshape(len(output.batch.rows), width, -1)
            found += zip(output.batch.rows.tolist(), logits, strict=True)
            bar.advance(len(output.batch.rows))
    return [logits for _, logits in sorted(itertools.chain(*world.gather(found)), key=lambda pair: pair[0])]
