"""The one evaluation: batches through a network without gradients, in constant memory.

Validation, `evaluate`, `predict`, the scores of pre-training, the drop-in programs and feature extraction all read from
`run_batches`. It knows no task: it yields what the head gives, and losses where they are asked for.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bertune.cuda.recorded_forwards import RecordedForwards
from bertune.data.batching import sorted_batches
from bertune.distributed.shares import shares_by_cost
from bertune.distributed.world import ALONE, World
from bertune.encoder.layout import ToHost
from bertune.features import Features
from bertune.network import Batch, BatchLoss, Network, TiedHead, pack, pack_with_companion

MAX_TOKENS = 4096
"""Tokens of a batch outside training; more gain nothing on a CPU and cost memory."""
CUDA_TOKENS = 32768
"""The same on CUDA, where a batch must be long enough to keep the device busy while the host prepares the next."""
BEHIND = 2
"""Batches that CUDA may be ahead of the host's reading."""


@dataclass(frozen=True)
class BatchOutput:
    """What a network gave for a batch.

    batch: as it was given.
    logits: the head's output. Shape: (sequences, outputs) or (tokens, outputs), float32.
    loss: sum of losses and number of terms, on the network's device, where they were asked for. Shape: () each.
    """

    batch: Batch
    logits: npt.NDArray[np.float32]
    loss: tuple[Tensor, Tensor] | None


LAUNCH_BOUND = 2**23
"""Tokens times hidden size up to which forward passes are recorded on CUDA.

An estimate: at some 150 us to launch a layer and what an H100 computes, the device is busy for several times as long
with larger batches, and a tail of no use would cost more than launching them.
"""


def record_forwards(network: Network) -> None:
    """Let `run_batches` record forward passes from now on, where the device can.

    For a network that is only used, and whose head decides nothing in Python by a batch's values. A `TiedHead` is not
    recorded: it asks the device which tokens it is to answer.
    """
    most_tokens = LAUNCH_BOUND // network.encoder.config.hidden_size
    network.recorded = None if isinstance(network.head, TiedHead) else RecordedForwards(most_tokens)


def run_batches(
    network: Network, batches: Iterable[Batch], *, loss: BatchLoss | None = None
) -> Generator[BatchOutput, None, None]:
    """Run batches through a network, in order; on CUDA the device is a few batches ahead of what is yielded.

    Args:
        network: left in evaluation mode.
        batches: on the host; read one at a time.
        loss: also compute this of every batch.
    """
    device, recorded = network.device, network.recorded
    modules = list(network.modules())
    if any(module.training for module in modules):  # to ask is quicker than to set
        network.eval()
    if recorded is not None:
        recorded.bind(modules, device)

    def forward(packed: Batch) -> tuple[ToHost, tuple[Tensor, Tensor] | None]:
        """Logits, on their way to the host, and the loss. Nothing here waits for the device."""
        result = None if recorded is None else recorded.replayed(network, packed)
        if result is not None and loss is None:
            return ToHost(result.float()), None
        batch = packed.to(device)
        if result is None:
            result = network(batch) if recorded is None else recorded.run_eager(network, batch)
        return ToHost(result.float()), None if loss is None else loss(result, batch)

    ahead = BEHIND if device.type == "cuda" else 0
    computed: deque[tuple[Batch, ToHost, tuple[Tensor, Tensor] | None]] = deque()
    for batch in batches:
        with torch.inference_mode():
            computed.append((batch, *forward(batch)))
        while len(computed) > ahead:
            done, logits, sums = computed.popleft()
            yield BatchOutput(done, logits.read().numpy(), sums)
    for done, logits, sums in computed:
        yield BatchOutput(done, logits.read().numpy(), sums)


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
    world: World = ALONE,
) -> Inference:
    """Run all sequences through the network without gradients, similar lengths together.

    Args:
        network: left in evaluation mode.
        features: what to run.
        batch_size: most sequences at a time; batches are also held to MAX_TOKENS tokens, on CUDA to CUDA_TOKENS.
        loss: also compute the mean loss.
        advance: told of every finished batch's number of sequences.
        world: ranks that share the batches, by their tokens; all of them get all results, which are those of one
            process to the last bit, because the batches are.
    """
    device = network.device
    found: list[_Rows] = []
    sums: list[Tensor] = []
    lengths = features.input_ids.lengths
    tokens = CUDA_TOKENS if device.type == "cuda" else MAX_TOKENS
    start = time.perf_counter()
    units = list(sorted_batches(features.unit_lengths, max_tokens=tokens, max_sequences=batch_size))
    costs = [int(features.unit_lengths[some].sum()) for some in units] if world.size > 1 else [0] * len(units)
    mine = shares_by_cost(costs, world.size)[world.rank].tolist()
    batches = ((pack if loss is not None else pack_with_companion)(features, units[i]) for i in mine)
    for output in run_batches(network, batches, loss=loss):
        rows = output.batch.rows
        found.append(_Rows(rows, _one_each(output, lengths[rows])))
        if output.loss is not None:
            sums.append(torch.stack([part.double() if device.type != "mps" else part for part in output.loss]))
        if advance is not None:
            advance(len(rows))
    numbers = torch.stack(sums).tolist() if sums else []
    logits: list[npt.NDArray[np.float32]] = [np.zeros(0, np.float32)] * len(features)
    by_batch: dict[int, list[float]] = {}
    for batches_of_rank, rows_of_rank, numbers_of_rank in world.gather((mine, found, numbers)):
        by_batch |= dict(zip(batches_of_rank, numbers_of_rank, strict=False))
        for rows, values in rows_of_rank:
            for row, one in zip(rows, values, strict=True):
                logits[row] = one
    total, count = (
        (sum(column) for column in zip(*(by_batch[i] for i in sorted(by_batch)), strict=True))
        if by_batch
        else (0.0, 0.0)
    )
    return Inference(logits, total / count if count else None, time.perf_counter() - start)


class _Rows(NamedTuple):
    """Logits of a batch's sequences, by their places among the features."""

    rows: npt.NDArray[np.int64]
    logits: list[npt.NDArray[np.float32]]


def _one_each(output: BatchOutput, lengths: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float32]]:
    """The head's rows, or runs of rows, that belong to each sequence; those of a companion are dropped.

    lengths: tokens of every sequence. Shape: (sequences,).
    """
    if len(output.logits) == len(output.batch.layout):
        return list(output.logits[: len(lengths)])
    ends = np.cumsum(lengths)
    return [output.logits[end - length : end].copy() for end, length in zip(ends, lengths, strict=True)]
