"""Heads that tasks share, on the last layer or on several."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import linear_by_rows
from bertune.tasks.shared.layers import LayerMix, LayersHead


class PooledHead(nn.Module):
    """Dropout and a linear layer on the pooled output, in float32. weight: Shape: (outputs, hidden)."""

    reads = "pooled_output"

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = nn.Dropout(0.1)  # google-research/bert fixes this rate in run_classifier.py
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: pooled_output (sequences, hidden) → (sequences, outputs)."""
        return linear_by_rows(self.dropout(output.pooled_output.float()), self.weight, self.bias)


class TokenHead(nn.Module):
    """Dropout and a linear layer on every token, in float32. weight: Shape: (outputs, hidden)."""

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: sequence_output (tokens, hidden) → (tokens, outputs)."""
        return linear_by_rows(self.dropout(output.token_output.float()), self.weight, self.bias)


def pooled_head(config: EncoderConfig, outputs: int, layers: str) -> PooledHead | LayersHead:
    """A linear layer on the pooled output; with several layers on their first token. layers: `--layers`.

    Raises:
        InputError: more layers than the encoder has.
    """
    return PooledHead(config, outputs) if layers == "last" else LayersHead(config, layers, outputs, tokens=False)


def token_head(config: EncoderConfig, outputs: int, layers: str) -> TokenHead | LayersHead:
    """A linear layer on every token, of the last layer or of several.

    Raises:
        InputError: more layers than the encoder has.
    """
    return TokenHead(config, outputs) if layers == "last" else LayersHead(config, layers, outputs, tokens=True)


class PoolingHead(nn.Module):
    """The mean of a sequence's token vectors, or its first, of length 1 if asked for; of one layer or of several."""

    def __init__(self, pooling: str, *, normalize: bool = True, mix: LayerMix | None = None) -> None:
        super().__init__()
        self.pooling, self.normalize = pooling, normalize
        self.needs_layers = mix is not None
        if mix is not None:
            self.mix = mix

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: sequence_output (tokens, hidden) → (sequences, width), float32."""
        tokens = self.mix(output) if self.needs_layers else output.sequence_output.float()
        pooled = tokens[layout.starts] if self.pooling == "cls" else layout.means(tokens)
        return F.normalize(pooled, dim=1) if self.normalize else pooled
