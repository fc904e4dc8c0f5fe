"""The convolution beside the first layer of DeBERTa-v2-xlarge and -xxlarge (He et al., 2021): n-grams of the input."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout, LayerNorm, activate


class Convolution(nn.Module):
    """A convolution over the embeddings of neighbouring tokens, added to the first layer's output and normalised.

    weight: Shape: (hidden, hidden / groups, tokens); bias: Shape: (hidden,). Both in float32.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, self.groups, self.span = config.hidden_size, config.convolution_groups, config.convolution
        self.weight = nn.Parameter(torch.empty(width, width // self.groups, self.span))
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = LayerNorm(width, config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.activation = config.convolution_act

    def forward(self, embeddings: Tensor, x: Tensor, layout: Layout) -> Tensor:
        """Shape: (tokens, hidden) twice → (tokens, hidden). A sequence's neighbours are zeros."""
        channels = layout.to_padded(embeddings).transpose(1, 2)  # (sequences, hidden, longest)
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        found = F.conv1d(channels, weight, bias, padding=self.span // 2, groups=self.groups).transpose(1, 2)
        result: Tensor = self.norm(x + activate(self.dropout(layout.from_padded(found), layout), self.activation))
        return result
