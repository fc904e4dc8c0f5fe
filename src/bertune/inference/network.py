"""Encoder and head as one module."""

from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bertune.cuda.recorded_forwards import RecordedForwards
from bertune.data.packing import Batch
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.layout import Layout

LAUNCH_BOUND = 2**23
"""Tokens times hidden size up to which forward passes are recorded on CUDA.

An estimate: at some 150 us to launch a layer and what an H100 computes, the device is busy for several times as long
with larger batches, and a tail of no use would cost more than launching them.
"""


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

    def record(self) -> None:
        """Let `inference.evaluation` record forward passes from now on, where the device can.

        For a network that is only used, and whose head decides nothing in Python by a batch's values. A `TiedHead` is
        not recorded: it asks the device which tokens it is to answer.
        """
        most_tokens = LAUNCH_BOUND // self.encoder.config.hidden_size
        self.recorded = None if isinstance(self.head, TiedHead) else RecordedForwards(most_tokens)


TaskLoss = Callable[[Tensor, Mapping[str, Tensor], Layout], tuple[Tensor, Tensor]]
"""Logits, targets and layout of a batch → the sum of its losses, and how many there are: `Task.loss`."""

BatchLoss = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
"""Logits and batch → sum of losses and the count to divide it by."""


def batch_loss(loss: TaskLoss) -> BatchLoss:
    """A task's loss as one of logits and batch."""
    return lambda logits, batch: loss(logits, batch.targets, batch.layout)
