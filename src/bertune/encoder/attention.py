"""One attention, for packed and padded layouts; the layout and the device pick the kernel."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Linear


class Attention(nn.Module):
    """Multi-head self-attention within every sequence (Vaswani et al., 2017); queries, keys, values in one product."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.output = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden)."""
        context: Tensor = attend(self.qkv(x), layout, self.heads, self.dropout if self.training else 0.0)
        result: Tensor = self.output(context)
        return result


def attend(qkv: Tensor, layout: Layout, heads: int, dropout: float) -> Tensor:
    """softmax(q kᵀ / √head size) v within every sequence, with dropout on the probabilities.

    Args:
        qkv: queries, keys and values side by side. Shape: (tokens, 3 * hidden).
        layout: where the sequences lie; rows outside them get zeros or values without meaning.
        heads: attention heads.
        dropout: probability of dropping an attention weight; 0 outside training.

    Returns: Shape: (tokens, hidden).
    """
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    split = qkv.view(tokens, 3, heads, width // heads)
    if layout.is_packed and qkv.is_cuda and qkv.dtype != torch.float32:
        return _flash(split, layout, dropout).reshape(tokens, width)
    padded = layout.to_padded(split) if layout.is_packed else split.view(len(layout), layout.stride, *split.shape[1:])
    q, k, v = padded.permute(2, 0, 3, 1, 4)
    even = layout.real == len(layout) * layout.longest
    mask = None if even else layout.mask()[:, None, None, :]
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2)
    if layout.is_packed:
        return layout.from_padded(context).view(tokens, width)
    return context.reshape(tokens, width)


def _flash(split: Tensor, layout: Layout, dropout: float) -> Tensor:
    """Variable-length flash attention on CUDA, with dropout, which PyTorch's public `varlen_attn` lacks.

    `aten::_flash_attention_forward` is private but differentiable and present from PyTorch 2.6 on.
    Shape: (tokens, 3, heads, head size) → (tokens, heads, head size).
    """
    bounds = F.pad(layout.lengths.cumsum(0), (1, 0)).to(torch.int32)
    q, k, v = split.unbind(1)
    out: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, bounds, bounds, layout.longest, layout.longest, dropout, False, False
    )[0]
    if layout.real < layout.total:  # the tail belongs to no sequence: the kernel leaves its rows unwritten
        inside = torch.arange(layout.total, device=out.device) < bounds[-1]
        out = torch.where(inside[:, None, None], out, 0)
    return out
