"""A head that compares the two texts of a pair.

The first token's vector must learn from the task's own rows to tell how two texts differ. An encoder that was trained
to put like texts near each other has that in the means of their tokens already: this head reads both means, their
difference and their product (Mou et al., 2016, "Natural language inference by tree-based convolution and heuristic
matching"; Reimers & Gurevych, 2019, "Sentence-BERT").
"""

import torch
from torch import Tensor, nn

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout, linear_by_rows
from bertune.errors import InputError
from bertune.tasks.options import FIRST_TOKEN, PAIR


class PairHead(nn.Module):
    """Means of both texts' tokens, their difference and product, a tanh layer, dropout, a linear layer; in float32.

    dense_weight: Shape: (hidden, 4 · hidden).  weight: Shape: (outputs, hidden).
    """

    def __init__(self, config: EncoderConfig, outputs: int) -> None:
        super().__init__()
        if config.type_vocab_size < 2:
            raise InputError(
                f"--pooling {PAIR}: this encoder does not mark of which text of a pair a token is; choose --pooling "
                f"{FIRST_TOKEN}"
            )
        hidden, std = config.hidden_size, config.initializer_range
        self.dense_weight = nn.Parameter(torch.empty(hidden, 4 * hidden))
        self.dense_bias = nn.Parameter(torch.zeros(hidden))
        self.weight = nn.Parameter(torch.empty(outputs, hidden))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.dropout = Dropout(0.1)
        for weight in (self.dense_weight, self.weight):
            nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)

    def forward(self, output: EncoderOutput, layout: Layout) -> Tensor:
        """Shape: sequence_output (tokens, hidden) → (sequences, outputs)."""
        tokens = output.sequence_output.float()
        assert output.segment_ids is not None, "an encoder's output has the batch's segments"
        second = output.segment_ids.eq(1).to(tokens.dtype)[:, None]
        first_mean, second_mean = (_mean(tokens, share, layout) for share in (1 - second, second))
        compared = torch.cat(
            [first_mean, second_mean, (first_mean - second_mean).abs(), first_mean * second_mean], dim=1
        )
        active = torch.tanh(linear_by_rows(compared, self.dense_weight, self.dense_bias))
        return linear_by_rows(self.dropout(active, layout), self.weight, self.bias)


def _mean(tokens: Tensor, share: Tensor, layout: Layout) -> Tensor:
    """The mean of the rows whose share is 1; zero where a sequence has none.

    Shape: (tokens, hidden), (tokens, 1) → (sequences, hidden).
    """
    return layout.sums(tokens * share) / layout.sums(share).clamp(min=1)
