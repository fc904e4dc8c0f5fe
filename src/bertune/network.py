"""From features to logits: how a batch is packed, and the network, an encoder and a head, that takes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.layout import Layout, to_device
from bertune.features import IGNORED, Column, Features, Ragged

if TYPE_CHECKING:
    from bertune.cuda.recorded_forwards import RecordedForwards


@dataclass(frozen=True)
class Batch:
    """Several sequences on one token axis.

    input_ids, segment_ids, positions: Shape: (tokens,), int64.
    layout: where the sequences lie.
    targets: Shape: (sequences, …) or (tokens,) each.
    rows: index of every sequence among the features. Shape: (sequences,).
    """

    input_ids: Tensor
    segment_ids: Tensor
    positions: Tensor
    layout: Layout
    targets: Mapping[str, Tensor]
    rows: npt.NDArray[np.int64]

    def with_keys(self) -> "Batch":
        """The same on the CPU, whose dropout follows from the sequences' numbers in `rows`, not from their company."""
        return replace(self, layout=replace(self.layout, keys=torch.from_numpy(self.rows.astype(np.int64))))

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device; the copy does not wait."""
        if device.type == "cpu":
            return self
        return Batch(
            to_device(self.input_ids, device),
            to_device(self.segment_ids, device),
            to_device(self.positions, device),
            self.layout.to(device),
            {name: to_device(target, device) for name, target in self.targets.items()},
            self.rows,
        )


ROUND_TOKENS = 32
"""The token axis is rounded up to a multiple of this: the matrix library prepares its kernels once a shape."""


def pack(features: Features, units: npt.NDArray[np.integer]) -> Batch:
    """The units (sequences, or whole examples) at these places, end to end, with a tail that belongs to no sequence.

    Shape: tokens is the sum of lengths, rounded up to a multiple of ROUND_TOKENS.
    """
    rows = features.rows_of(units)
    ids = features.input_ids.take(rows)
    lengths = ids.lengths
    real = len(ids.values)
    total = -(-real // ROUND_TOKENS) * ROUND_TOKENS
    positions = np.arange(real) - np.repeat(ids.offsets[:-1], lengths)
    return Batch(
        _on_token_axis(ids.values, total, 0),
        _on_token_axis(features.segment_ids.take(rows).values, total, 0),
        _on_token_axis(positions, total, 0),
        Layout.packed(lengths.tolist(), total=total),
        {name: _target(column, rows, total) for name, column in features.targets.items()},
        rows,
    )


def pack_with_companion(features: Features, units: npt.NDArray[np.integer]) -> Batch:
    """The same, but never a single sequence: that gets a companion behind it, its own first two tokens again.

    Matrix libraries multiply one row by another routine, whose sums are rounded otherwise. With a companion, what a
    model answers to a text does not depend on whether others share its batch. The head's output for the companion,
    which is last, must be dropped; `rows` does not list it.
    """
    rows = features.rows_of(units)
    if len(rows) != 1:
        return pack(features, units)
    row = int(rows[0])
    two = np.array([row, row])

    def with_companion(column: Column) -> Column:
        if isinstance(column, Ragged):
            return Ragged.from_lists([column[row], column[row][:2]])
        taken: Column = column[two]
        return taken

    targets = {name: with_companion(column) for name, column in features.targets.items()}
    pair = Features(
        Ragged.from_lists([features.input_ids[row], features.input_ids[row][:2]]),
        Ragged.from_lists([features.segment_ids[row], features.segment_ids[row][:2]]),
        np.zeros(2, np.int32),
        targets,
    )
    return replace(pack(pair, np.arange(2)), rows=rows)


def _on_token_axis(values: npt.NDArray[np.integer], total: int, fill: int) -> Tensor:
    tokens = torch.full((total,), fill, dtype=torch.int64)
    tokens[: len(values)] = torch.from_numpy(values)
    return tokens


def _target(column: Column, rows: npt.NDArray[np.integer], total: int) -> Tensor:
    if isinstance(column, Ragged):
        return _on_token_axis(column.take(rows).values, total, IGNORED)
    chosen = torch.from_numpy(column[rows])
    return chosen.float() if chosen.is_floating_point() else chosen.long()


POOLED_OUTPUT = "pooled_output"
"""A head's attribute `reads` of this value declares that it reads nothing else of the encoder's output."""


@runtime_checkable
class TiedHead(Protocol):
    """A head that shares the encoder's word vectors: it is handed their table, and the batch with its targets."""

    def with_embeddings(self, output: EncoderOutput, batch: Batch, table: Tensor) -> Tensor:
        """Logits, as a head gives them. table: Shape: (vocabulary, hidden)."""
        ...


class Network(nn.Module):
    """What is trained: an encoder and a task's head."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.recorded: RecordedForwards | None = None
        """What `inference.evaluation` replays forward passes from, where there is something."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits. Shape: (sequences, outputs) or (tokens, outputs), as the head gives them."""
        output = self.encoder(
            batch.input_ids,
            batch.segment_ids,
            batch.positions,
            batch.layout,
            keep_layers=getattr(self.head, "needs_layers", False),
            only_pooled=getattr(self.head, "reads", None) == POOLED_OUTPUT,
        )
        if isinstance(self.head, TiedHead):
            return self.head.with_embeddings(output, batch, self.encoder.embeddings.word.weight)
        logits: Tensor = self.head(output, batch.layout)
        return logits

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.embeddings.word.weight.device

    @property
    def drops_by_key(self) -> bool:
        """Whether all dropout can follow from `Layout.keys`: on the CPU, with a head that draws none itself."""
        return self.device.type == "cpu" and not any(isinstance(part, _DropoutNd) for part in self.head.modules())


TaskLoss = Callable[[Tensor, Mapping[str, Tensor], Layout], tuple[Tensor, Tensor]]
"""Logits, targets and layout of a batch → the sum of its losses, and how many there are: `Task.loss`."""

BatchLoss = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
"""Logits and batch → sum of losses and the count to divide it by."""


def batch_loss(loss: TaskLoss) -> BatchLoss:
    """A task's loss as one of logits and batch."""
    return lambda logits, batch: loss(logits, batch.targets, batch.layout)
