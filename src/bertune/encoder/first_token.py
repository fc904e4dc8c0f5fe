"""Attention for the first token of every sequence alone: what the last layer needs for a head on the pooled output.

A head that reads `pooled_output` uses one row per sequence of the last layer's output, so attention has one query per
sequence. Then neither keys nor values have to be computed for every token, for both products are linear and can change
places with the sums over tokens. For one head, with query q, inputs x_t and attention weights p_t:

    q · (W_k x_t + b_k) = (W_kᵀ q) · x_t + q · b_k      the last term is the same for all t: softmax does not see it
    Σ p_t (W_v x_t + b_v) = W_v (Σ p_t x_t) + b_v Σ p_t    with dropout Σ p_t differs from 1

This is exact, in gradients too, and turns 4 · hidden² multiplications per token (keys and values, forward) into
2 · heads · hidden. Rotary positions stand between W_k and x_t; with them keys and values are computed for all tokens.
Everything is computed in float32: it is little, and bfloat16 sums would be rounded in other places than `attend`'s.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from bertune.encoder.layout import Layout
from bertune.encoder.modules import dropout


class Projection(NamedTuple):
    """Weights and biases of queries, keys and values, stacked. Shape: (3 * hidden, hidden), (3 * hidden,)."""

    weight: Tensor
    bias: Tensor | None


def first_token_attention(
    x: Tensor, projection: Projection, layout: Layout, heads: int, dropout_p: float, window: int = 0
) -> Tensor:
    """Attention's result for the first token of every sequence, before the output projection.

    Args:
        x: the layer's input, for every token. Shape: (tokens, hidden).
        projection: of queries, keys and values.
        layout: where the sequences lie.
        heads: attention heads.
        dropout_p: probability of dropping an attention weight; 0 outside training.
        window: tokens that the first token attends to on its right; 0: all of its sequence.

    Returns: Shape: (sequences, hidden), in x's type.
    """
    width = x.shape[1]
    size = width // heads
    by_query, by_key, by_value = projection.weight.float().view(3, heads, size, width).unbind()
    padded = padded_float32(x, layout)
    q = F.linear(padded[:, 0], by_query.reshape(width, width))
    if projection.bias is not None:
        q = q + projection.bias[:width]
    # (heads, sequences, size) x (heads, size, hidden): the queries as seen by the layer's input
    seen = torch.bmm(_by_head(q, heads) * size**-0.5, by_key).transpose(0, 1)
    scores = torch.bmm(seen, padded.transpose(1, 2))
    weights = dropout(torch.softmax(_hidden(scores, layout, window), dim=-1), dropout_p)
    mixed = torch.bmm(weights, padded).transpose(0, 1)
    context = torch.bmm(mixed, by_value.transpose(1, 2)).transpose(0, 1)
    if projection.bias is not None:
        context = context + weights.sum(-1, keepdim=True) * projection.bias[2 * width :].view(heads, size)
    return context.reshape(len(layout), width).to(x.dtype)


def first_query_attention(qkv: Tensor, layout: Layout, heads: int, dropout_p: float, window: int = 0) -> Tensor:
    """The same from queries, keys and values of all tokens, where positions have rotated queries and keys.

    Shape: (tokens, 3 * hidden) → (sequences, hidden).
    """
    width = qkv.shape[1] // 3
    q, k, v = padded_float32(qkv, layout).view(len(layout), layout.longest, 3, heads, width // heads).unbind(2)
    scores = torch.einsum("shd,slhd->shl", q[:, 0] * (width // heads) ** -0.5, k)
    weights = dropout(torch.softmax(_hidden(scores, layout, window), dim=-1), dropout_p)
    return torch.einsum("shl,slhd->shd", weights, v).reshape(len(layout), width).to(qkv.dtype)


def padded_float32(tokens: Tensor, layout: Layout) -> Tensor:
    """Rows by sequence, in float32; what lies behind a sequence's end is finite and without meaning.

    Shape: (total, width) → (sequences, longest, width).
    """
    if not layout.is_packed:
        return tokens.view(len(layout), layout.stride, -1).float()
    padded: Tensor = _Padded.apply(tokens, layout)  # type: ignore[no-untyped-call]
    return padded


class _Padded(torch.autograd.Function):
    """A gather, and for its gradient another: autograd would scatter, row by row, which is slow on a CPU."""

    @staticmethod
    def forward(ctx, tokens: Tensor, layout: Layout) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.layout, ctx.dtype = layout, tokens.dtype
        rows = layout.rows().reshape(-1)
        return tokens.index_select(0, rows).float().view(len(layout), layout.longest, -1)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        layout: Layout = ctx.layout
        places, is_real = layout.places()
        rows = gradient.reshape(-1, gradient.shape[-1]).index_select(0, places)
        if layout.real < layout.total:
            rows = rows.masked_fill(~is_real[:, None], 0.0)
        return rows.to(ctx.dtype), None


def _by_head(rows: Tensor, heads: int) -> Tensor:
    """Shape: (sequences, hidden) → (heads, sequences, head size)."""
    return rows.view(len(rows), heads, -1).transpose(0, 1)


def _hidden(scores: Tensor, layout: Layout, window: int) -> Tensor:
    """Scores of which those that the first token must not see are -inf. Shape: (sequences, heads, longest)."""
    if layout.real < len(layout) * layout.longest:
        scores = scores.masked_fill(~layout.mask()[:, None], -torch.inf)
    if window and layout.longest > window + 1:
        far = torch.arange(layout.longest, device=scores.device) > window
        scores = scores.masked_fill(far, -torch.inf)
    return scores
