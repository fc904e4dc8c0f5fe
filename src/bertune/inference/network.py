"""Encoder and head as one module, and running it over many sequences."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bertune.cuda.recorded_forwards import RecordedForwards
from bertune.data.batching import sorted_batches
from bertune.data.features import Batch, Features, pack
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.transfer import ToHost

MAX_TOKENS = 4096
"""Tokens of a batch outside training; more gain nothing on a CPU and cost memory."""
CUDA_TOKENS = 32768
"""The same on CUDA, where a batch must be long enough to keep the device busy while the host prepares the next."""
LAUNCH_BOUND = 2**23
"""Tokens times hidden size up to which forward passes are recorded on CUDA.

An estimate: at some 150 us to launch a layer and what an H100 computes, the device is busy for several times as long
with larger batches, and a tail of no use would cost more than launching them.
"""
BEHIND = 2
"""Batches that CUDA may be ahead of the host's reading."""


@runtime_checkable
class WordHead(Protocol):
    """A head that shares the encoder's word vectors: it is handed their table, and the batch with its targets."""

    def with_words(self, output: EncoderOutput, batch: Batch, table: Tensor) -> Tensor:
        """Logits, as a head gives them. table: Shape: (vocabulary, hidden)."""
        ...


class Network(nn.Module):
    """What is trained: an encoder and a task's head."""

    def __init__(self, encoder: Encoder, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.recorded: RecordedForwards | None = None
        """What `infer` replays forward passes from, where there is something."""

    def forward(self, batch: Batch) -> Tensor:
        """Logits. Shape: (sequences, outputs) or (tokens, outputs), as the head gives them."""
        keep = getattr(self.head, "needs_layers", False)
        output = self.encoder(batch.input_ids, batch.segment_ids, batch.positions, batch.layout, keep_layers=keep)
        if isinstance(self.head, WordHead):
            return self.head.with_words(output, batch, self.encoder.embeddings.word.weight)
        logits: Tensor = self.head(output, batch.layout)
        return logits

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.encoder.pooler.weight.device

    def record(self) -> None:
        """Let `infer` record forward passes from now on, where the device can.

        For a network that is only used, and whose head decides nothing in Python by a batch's values. A `WordHead` is
        not recorded: it asks the device which tokens it is to answer.
        """
        most_tokens = LAUNCH_BOUND // self.encoder.config.hidden_size
        self.recorded = None if isinstance(self.head, WordHead) else RecordedForwards(most_tokens)


BatchLoss = Callable[[Tensor, Batch], tuple[Tensor, Tensor]]
"""Logits and batch → sum of losses and the count to divide it by."""


@dataclass(frozen=True)
class Inference:
    """logits: one array a sequence, in the features' order.  loss: their mean, where it was asked for."""

    logits: list[npt.NDArray[np.float32]]
    loss: float | None
    seconds: float


def infer(
    network: Network,
    features: Features,
    *,
    batch_size: int = 256,
    loss: BatchLoss | None = None,
    advance: Callable[[int], None] | None = None,
) -> Inference:
    """Run all sequences through the network without gradients, similar lengths together.

    Args:
        network: left in evaluation mode.
        features: what to run.
        batch_size: most sequences at a time; batches are also held to MAX_TOKENS tokens, on CUDA to CUDA_TOKENS.
        loss: also compute the mean loss.
        advance: told of every finished batch's number of sequences.
    """
    device, recorded = network.device, network.recorded
    modules = list(network.modules())
    if any(module.training for module in modules):  # to ask is quicker than to set
        network.eval()
    if recorded is not None:
        recorded.follow(modules, device)
    on_cuda = device.type == "cuda"
    logits: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(features)
    sums = torch.zeros(2, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64)
    computed: deque[tuple[npt.NDArray[np.int64], ToHost]] = deque()
    lengths = features.input_ids.lengths

    def run(packed: Batch) -> Tensor:
        """Logits of a batch on the host; its loss is added to the sums. Nothing here waits for the device."""
        result = None if recorded is None else recorded.replayed(network, packed)
        if result is not None and loss is None:
            return result
        batch = packed.to(device)
        if result is None:
            result = network(batch) if recorded is None else recorded.directly(network, batch)
        if loss is not None:
            for i, part in enumerate(loss(result, batch)):
                sums[i] += part
        return result

    def read(*, leave: int) -> None:
        while len(computed) > leave:
            rows, result = computed.popleft()
            for row, values in zip(rows, _one_each(result.read().numpy(), lengths[rows]), strict=True):
                logits[row] = values
            if advance is not None:
                advance(len(rows))

    start = time.perf_counter()
    with torch.inference_mode():
        at_once = CUDA_TOKENS if on_cuda else MAX_TOKENS
        for units in sorted_batches(features.unit_lengths, max_tokens=at_once, max_sequences=batch_size):
            packed = pack(features, units)
            computed.append((packed.rows, ToHost(run(packed).float())))
            read(leave=BEHIND if on_cuda else 0)
        read(leave=0)
        total, count = (0.0, 0.0) if loss is None else sums.tolist()
    return Inference(logits, total / count if count else None, time.perf_counter() - start)


def _one_each(values: npt.NDArray[np.float32], lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
    """The head's rows, or runs of rows, that belong to each sequence."""
    if len(values) == len(lengths):
        return list(values)
    ends = np.cumsum(lengths)
    return [values[end - length : end].copy() for end, length in zip(ends, lengths, strict=True)]
