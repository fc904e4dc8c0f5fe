"""Heads on several layers: a learned mix, or the last four side by side.

Sources: Peters et al., 2018 (ELMo's scalar mix); Devlin et al., 2019, section 5.3 (concatenation of the last four).
"""

import torch
from torch import Tensor, nn

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout, linear_by_rows
from bertune.errors import InputError


class LayerMix(nn.Module):
    """One vector for every token out of several layers', in float32. A head that has one needs `needs_layers = True`.

    mix: a weighted sum of the embeddings and all layers, the weights a softmax of learned numbers, times a learned
    scale. last4: the last four layers, concatenated. last: the last layer.
    """

    def __init__(self, config: EncoderConfig, kind: str) -> None:
        """Raises InputError where last4 meets an encoder of fewer layers."""
        super().__init__()
        if kind == "last4" and config.num_hidden_layers < 4:
            raise InputError(f"--layers last4: the encoder has only {config.num_hidden_layers} layers")
        self.kind = kind
        self.width = config.hidden_size * (4 if kind == "last4" else 1)
        if kind == "mix":
            self.weights = nn.Parameter(torch.zeros(config.num_hidden_layers + 1))
            self.scale = nn.Parameter(torch.ones(()))

    def forward(self, output: EncoderOutput) -> Tensor:
        """Shape: (tokens, width)."""
        if self.kind == "last":
            return output.sequence_output.float()
        if self.kind == "last4":
            return torch.cat([layer.float() for layer in output.layers[-4:]], 1)
        shares = torch.softmax(self.weights, 0)
        mixed = sum(
            (share * layer.float() for share, layer in zip(shares, output.layers, strict=True)),
            start=torch.zeros((), device=shares.device),
        )
        return self.scale * mixed


class LayersHead(nn.Module):
    """Dropout and a linear layer on several layers, for every token or for the first of every sequence.

    weight: Shape: (outputs, width).
    """

    needs_layers = True

    def __init__(self, config: EncoderConfig, kind: str, outputs: int, *, tokens: bool) -> None:
        super().__init__()
        self.mix = LayerMix(config, kind)
        self.dropout = Dropout(0.1, of_head=True)
        self.weight = nn.Parameter(torch.empty(outputs, self.mix.width))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.tokens = tokens
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: (tokens, outputs), or (sequences, outputs)."""
        mixed = self.mix(output)
        seen = mixed if self.tokens else mixed[layout.starts]
        return linear_by_rows(self.dropout(seen, layout), self.weight, self.bias)
