"""The head of question answering, and its loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import linear_by_rows
from bertune.tasks.shared.layers import LayersHead


class SpanHead(nn.Module):
    """A start and an end logit for every token, in float32. weight: Shape: (2, hidden)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(2))
        std = config.initializer_range
        nn.init.trunc_normal_(self.weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:  # noqa: ARG002
        """Shape: sequence_output (tokens, hidden) → (tokens, 2)."""
        return linear_by_rows(output.token_output.float(), self.weight, self.bias)


def span_head(config: EncoderConfig, layers: str) -> SpanHead | LayersHead:
    """Start and end logits of every token, from the last layer or from several. layers: `--layers`.

    Raises:
        InputError: more layers than the encoder has.
    """
    return SpanHead(config) if layers == "last" else LayersHead(config, layers, 2, tokens=True)


def span_loss(logits: Tensor, start: Tensor, end: Tensor, layout: Layout, *, over_padding: bool = False) -> Tensor:
    """Mean of the start's and the end's cross-entropy over the tokens of a sequence, summed over sequences.

    Args:
        logits: Shape: (tokens, 2).
        start: token of the answer's start within its sequence. Shape: (sequences,).
        end: likewise.
        layout: where the sequences lie.
        over_padding: let the padding of a padded layout take part in the softmax, as google-research/bert does.

    Returns: Shape: ().
    """
    if over_padding:
        padded = logits.view(len(layout), layout.stride, 2)
    else:
        padded = layout.to_padded(logits, fill=-torch.inf)
    both = padded.unbind(-1)
    return sum(
        (F.cross_entropy(one, target, reduction="sum") / 2 for one, target in zip(both, (start, end), strict=True)),
        start=logits.new_zeros(()),
    )
