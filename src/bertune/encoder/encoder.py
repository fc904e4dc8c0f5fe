"""The BERT encoder: embeddings, layers, pooler, on one flat axis of tokens.

Source: Devlin et al., 2019 (post-norm wiring of google-research/bert's modeling.py).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bertune.encoder import fused_layer
from bertune.encoder.attention import Attention
from bertune.encoder.config import EncoderConfig
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout, LayerNorm, Linear, activate


@dataclass(frozen=True)
class EncoderOutput:
    """What the encoder says of a batch.

    sequence_output: a vector for every token. Shape: (tokens, hidden).
    pooled_output: a vector for every sequence, from its first token. Shape: (sequences, hidden).
    layers: when asked for, the embeddings and every layer's output. Shape: (tokens, hidden) each.
    """

    sequence_output: Tensor
    pooled_output: Tensor
    layers: tuple[Tensor, ...] = ()


class Embeddings(nn.Module):
    """Word, position and segment vectors, summed, normalised, dropped out."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.segment = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Tensor, segment_ids: Tensor, positions: Tensor) -> Tensor:
        """Shape: (tokens,) each → (tokens, hidden), float32."""
        total = self.word(input_ids) + self.position(positions) + self.segment(segment_ids)
        result: Tensor = self.dropout(self.norm(total))
        return result


class FeedForward(nn.Module):
    """Two products with an activation between, on every token alike."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.intermediate_size)
        self.down = Linear(config.intermediate_size, config.hidden_size)
        self.activation = config.hidden_act

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden)."""
        result: Tensor = self.down(activate(self.up(x), self.activation))
        return result


class Layer(nn.Module):
    """Attention and feed-forward, each added to its input and normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.attention = Attention(config)
        self.attention_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden)."""
        if fused_layer.applies_to(self, x):
            return fused_layer.run(self, x, layout)
        x = self.attention_norm(x + self.dropout(self.attention(x, layout)))
        result: Tensor = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return result


class Encoder(nn.Module):
    """A pretrained encoder's wiring; its numbers come from `config`, its weights from a checkpoint."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.pooler = Linear(config.hidden_size, config.hidden_size)
        self.activation_checkpointing = False
        """In training keep only each layer's input and compute the rest again on the way back: less memory."""
        initialise(self, config.initializer_range)

    @property
    def compute_dtype(self) -> torch.dtype:
        """The type that layers compute in: that of their matrices."""
        return self.pooler.weight.dtype

    def set_compute_dtype(self, dtype: torch.dtype) -> None:
        """Turn the matrices of the layers and the pooler into `dtype`; embedding tables and vectors stay float32."""
        for module in [*self.layers.modules(), self.pooler]:
            if isinstance(module, Linear):
                module.weight.data = module.weight.data.to(dtype)

    def forward(
        self, input_ids: Tensor, segment_ids: Tensor, positions: Tensor, layout: Layout, *, keep_layers: bool = False
    ) -> EncoderOutput:
        """Encode a batch.

        Args:
            input_ids: vocabulary entries. Shape: (tokens,), integer.
            segment_ids: 0 for sentence A, 1 for B. Shape: (tokens,), integer.
            positions: place within the sequence, from 0. Shape: (tokens,), integer.
            layout: where the sequences lie on the token axis.
            keep_layers: also return the embeddings and every layer's output.
        """
        x = self.embeddings(input_ids, segment_ids, positions).to(self.compute_dtype)
        kept = [x]
        for layer in self.layers:
            if self.activation_checkpointing and self.training:
                x = checkpoint(layer, x, layout, use_reentrant=False)
            else:
                x = layer(x, layout)
            if keep_layers:
                kept.append(x)
        pooled = torch.tanh(self.pooler(x[layout.starts]))
        return EncoderOutput(x, pooled, tuple(kept) if keep_layers else ())


def initialise(module: nn.Module, deviation: float) -> None:
    """New weights as in google-research/bert: truncated normal for matrices, zero biases, unit norms."""
    for part in module.modules():
        if isinstance(part, Linear | nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if isinstance(part, Linear | nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
