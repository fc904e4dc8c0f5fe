"""What the loop works with, made small: a tiny encoder on made-up sequences, nothing kept."""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.layout import Layout
from bertune.features import Features, Ragged
from bertune.network import Batch, BatchLoss, Network, pack
from bertune.options import AdamWOptions
from bertune.training.loop.optimizer import AdamW, Schedule
from bertune.training.loop.state import Evaluation, TrainConfig, TrainingSetup, TrainState


class Head(nn.Module):
    """Dropout and a linear layer on the pooled output, or on every token's."""

    def __init__(self, *, dropout: float = 0.0, tokens: bool = False) -> None:
        super().__init__()
        self.dropout, self.linear, self.tokens = nn.Dropout(dropout), nn.Linear(32, 2), tokens

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        seen = output.sequence_output if self.tokens else output.pooled_output
        logits: Tensor = self.linear(self.dropout(seen.float()))
        return logits


class NoCheckpointer:
    """Keeps nothing."""

    def save_checkpoint(self, optimizer: AdamW, progress: TrainState) -> None: ...

    def save_best(self, weights: Mapping[str, Tensor], evaluation: Evaluation) -> None: ...

    def curves(self, values: Mapping[str, float], step: int) -> None: ...


def features(sequences: int, *, shortest: int = 3, longest: int = 40, vocabulary: int = 50) -> Features:
    """Sequences of random tokens and lengths; the label is whether the second token is even."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(shortest, longest + 1, sequences)
    ids = Ragged.from_lengths(rng.integers(1, vocabulary, int(lengths.sum())).astype(np.int32), lengths)
    zeros = Ragged(np.zeros_like(ids.values), ids.offsets)
    labels = ids.values[ids.offsets[:-1] + 1] % 2
    return Features(ids, zeros, np.arange(sequences, dtype=np.int32), {"label": labels})


def network(*, dropout: float = 0.1, tokens: bool = False, device: str = "cpu") -> Network:
    """Always the same weights."""
    torch.manual_seed(11)
    config = EncoderConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    return Network(Encoder(config), Head(dropout=dropout, tokens=tokens)).to(device)


def loss(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy, one term a sequence."""
    target = batch.targets["label"]
    return F.cross_entropy(logits, target, reduction="sum"), torch.tensor(target.numel())


def parts(
    net: Network,
    data: Features,
    *,
    on_device: bool | None = None,
    make_batch: Callable[[npt.NDArray[np.int64]], Batch] | None = None,
    dtype: torch.dtype = torch.float32,
) -> TrainingSetup:
    """Ready to train; random numbers begin at one place."""
    optimizer = AdamW(net.named_parameters(), AdamWOptions(), on_device=on_device)
    net.encoder.set_compute_dtype(dtype)
    torch.manual_seed(5)

    def made(rows: npt.NDArray[np.int64], epoch: int) -> Batch:
        return pack(data, rows) if make_batch is None else make_batch(rows)

    return TrainingSetup(net, len(data), made, loss, optimizer, None, NoCheckpointer())


def plan(steps: int, batch_size: int = 8, accumulation: int = 1) -> TrainConfig:
    """A plan without evaluations."""
    return TrainConfig(steps, batch_size, accumulation, 1, Schedule(1e-2, steps, 2), None, None)


def with_loss(made: TrainingSetup, own: BatchLoss) -> TrainingSetup:
    """The same with another loss."""
    return dataclasses.replace(made, loss=own)
