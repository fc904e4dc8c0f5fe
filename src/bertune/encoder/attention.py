"""One attention, for packed and padded layouts; the layout and the device pick the kernel.

Attention for the first token of every sequence alone: what the last layer needs for a head on the pooled output.

A head that reads `pooled_output` uses one row per sequence of the last layer's output, so attention has one query per
sequence. Then neither keys nor values have to be computed for every token, for both products are linear and can change
places with the sums over tokens. For one head, with query q, inputs x_t and attention weights p_t:

    q · (W_k x_t + b_k) = (W_kᵀ q) · x_t + q · b_k      the last term is the same for all t: softmax does not see it
    Σ p_t (W_v x_t + b_v) = W_v (Σ p_t x_t) + b_v Σ p_t    with dropout Σ p_t differs from 1

This is exact, in gradients too, and turns 4 · hidden² multiplications per token (keys and values, forward) into
2 · heads · hidden. Rotary positions stand between W_k and x_t; with them keys are computed for all tokens.
Everything is computed in float32: it is little, and bfloat16 sums would be rounded in other places than `attend`'s.
"""

import functools
import logging
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Linear, dropout
from bertune.encoder.relative import RelativeScores

logger = logging.getLogger(__name__)

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of every token's angles. Shape: (tokens, 1, head size) each, float32."""


class Attention(nn.Module):
    """Multi-head self-attention within every sequence (Vaswani et al., 2017); queries, keys, values in one product."""

    def __init__(self, config: EncoderConfig, *, is_local: bool = False) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        self.dropout = config.attention_probs_dropout_prob
        self.window = config.local_window if is_local else 0
        self.key_value_heads, self.relative = config.key_value_heads or self.heads, config.relative
        width, bias = config.head_size * (self.heads + 2 * self.key_value_heads), config.has_bias("attention")
        self.qkv = Linear(config.hidden_size, width, bias=bias)
        self.output = Linear(config.hidden_size, config.hidden_size, bias=bias)
        if config.relative in {"layer", "projected"}:
            self.distances = RelativeScores(config)

    def forward(
        self,
        x: Tensor,
        layout: Layout,
        rotation: Rotation | None = None,
        *,
        relative: Tensor | None = None,
        first_only: bool = False,
    ) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden); with `first_only` → (sequences, hidden), for the first tokens.

        rotation: angles of rotary positions.
        relative: what `RelativeTable` gives, where the layers share one.
        """
        p = self.dropout if self.training else 0.0
        if self.relative:
            return self._with_distances(x, layout, relative, p, first_only=first_only)
        if first_only:
            projection = Projection(self.qkv.weight, self.qkv.bias)
            if rotation is None:
                first = first_token_attention(x, projection, layout, self.heads, p, self.window)
            else:
                first = rotated_first_token_attention(x, projection, layout, self.heads, p, self.window, rotation)
            pooled: Tensor = self.output(first)
            return pooled
        qkv = self.qkv(x)
        if self.key_value_heads < self.heads:
            qkv = repeated_heads(qkv, self.heads, self.key_value_heads)
        if rotation is not None:
            qkv = rotated(qkv, self.heads, rotation)
        context = attend(qkv, layout, self.heads, p, self.window)
        result: Tensor = self.output(context)
        return result

    def _with_distances(
        self, x: Tensor, layout: Layout, relative: Tensor | None, dropout: float, *, first_only: bool
    ) -> Tensor:
        """`forward` where distances between tokens count; the first tokens' rows are cut out of all."""
        q, k, v = padded_heads(self.qkv(x), layout, self.heads)
        if hasattr(self, "distances"):
            scores, scale = self.distances(q, k, self.qkv, relative), self.distances.scale
        else:
            scores, scale = relative, None
        if layout.real < len(layout) * layout.longest:
            scores = torch.where(layout.mask()[:, None, None, :], scores, -torch.inf)
        context = F.scaled_dot_product_attention(
            q, k, v, attn_mask=scores.to(q.dtype), dropout_p=dropout, scale=scale
        ).transpose(1, 2)
        if first_only:
            found = context[:, 0]
        else:
            found = layout.from_padded(context) if layout.is_packed else context
        result: Tensor = self.output(found.reshape(-1, x.shape[1]))
        return result


def padded_heads(qkv: Tensor, layout: Layout, heads: int) -> Tensor:
    """Queries, keys and values, padded. Shape: (tokens, 3 * hidden) → (3, sequences, heads, longest, head size)."""
    split = qkv.view(len(qkv), 3, heads, -1)
    padded = layout.to_padded(split) if layout.is_packed else split.view(len(layout), layout.stride, *split.shape[1:])
    return padded.permute(2, 0, 3, 1, 4)


def repeated_heads(qkv: Tensor, heads: int, key_value_heads: int) -> Tensor:
    """Every head of keys and values as often as heads of queries share it (Ainslie et al., 2023).

    Shape: (tokens, (heads + 2 * key_value_heads) * head size) → (tokens, 3 * heads * head size).
    """
    tokens, size = len(qkv), qkv.shape[1] // (heads + 2 * key_value_heads)
    q, k, v = torch.split_with_sizes(qkv.view(tokens, -1, size), [heads, key_value_heads, key_value_heads], dim=1)
    times = heads // key_value_heads
    return torch.cat([q, k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)], dim=1).view(tokens, -1)


def rotation_of(positions: Tensor, head_size: int, base: float, scale: float = 1.0) -> Rotation:
    """The angles scale · position · base^(-2i / head size) of rotary positions (Su et al., 2021), for both halves.

    Shape: (tokens,) → (tokens, 1, head size) twice.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions.float()[:, None] * (scale / base**exponents)
    both = torch.cat([angles, angles], dim=-1)[:, None, :]
    return both.cos(), both.sin()


def rotated(qkv: Tensor, heads: int, rotation: Rotation) -> Tensor:
    """Queries and keys turned. Shape: (tokens, 3 * hidden)."""
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    q, k, v = qkv.view(tokens, 3, heads, width // heads).unbind(1)
    return torch.stack([_turned(q, rotation), _turned(k, rotation), v], dim=1).view(tokens, 3 * width)


def _turned(x: Tensor, rotation: Rotation) -> Tensor:
    """Dimensions i and i + head size / 2 are one plane. Shape: (tokens, heads, head size)."""
    cos, sin = rotation
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


def attend(qkv: Tensor, layout: Layout, heads: int, dropout: float, window: int = 0) -> Tensor:
    """softmax(q kᵀ / √head size) v within every sequence, with dropout on the probabilities.

    Args:
        qkv: queries, keys and values side by side. Shape: (tokens, 3 * hidden).
        layout: where the sequences lie; rows outside them get zeros or values without meaning.
        heads: attention heads.
        dropout: probability of dropping an attention weight; 0 outside training.
        window: tokens to each side that a token attends to; 0: all of its sequence.

    Returns: Shape: (tokens, hidden).
    """
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    split = qkv.view(tokens, 3, heads, width // heads)
    if layout.is_packed and qkv.is_cuda and flash_works(qkv.device, qkv.dtype, width // heads):
        return _flash(split, layout.bounds, layout.longest, dropout, window).reshape(tokens, width)
    q, k, v = padded_heads(qkv, layout, heads)
    mask = _mask(layout, window)
    context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2)
    if layout.is_packed:
        return layout.from_padded(context).view(tokens, width)
    return context.reshape(tokens, width)


def _mask(layout: Layout, window: int) -> Tensor | None:
    """Which keys a query sees; None: all. Shape: (sequences or 1, 1, queries or 1, keys), bool."""
    even = layout.real == len(layout) * layout.longest
    real = None if even else layout.mask()[:, None, None, :]
    if not window or layout.longest <= window + 1:
        return real
    places = torch.arange(layout.longest, device=layout.lengths.device)
    apart = (places[:, None] - places[None, :]).abs()
    near = (apart <= window)[None, None]
    # Padding far behind a sequence's end sees itself: a softmax over nothing has no value, not even one to throw away.
    return near if real is None else (near & real) | (apart == 0)


@functools.cache
def flash_works(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether variable-length flash attention runs here, there and back: it is tried once.

    It is private to PyTorch and asks for half precision, an NVIDIA GPU of compute capability 8 or more, and heads of a
    multiple of 8 up to 256. Where it fails, attention runs on padded sequences.
    """
    if dtype not in (torch.float16, torch.bfloat16):
        return False
    try:
        with torch.random.fork_rng([device]), torch.inference_mode(False), torch.enable_grad():
            split = torch.zeros(8, 3, 1, head_size, device=device, dtype=dtype, requires_grad=True)
            bounds = torch.tensor([0, 3, 8, 8], device=device, dtype=torch.int32)
            _flash(split, bounds, 5, 0.1, 0).sum().backward()  # type: ignore[no-untyped-call]
            return split.grad is not None and bool(split.grad.isfinite().all())
    except (AttributeError, NotImplementedError, RuntimeError, TypeError) as error:
        first = str(error).partition("\n")[0]
        logger.warning("no flash attention on this device (%s); attention runs on padded sequences", first)
        return False


def _flash(split: Tensor, bounds: Tensor, longest: int, dropout: float, window: int) -> Tensor:
    """Variable-length flash attention on CUDA, with dropout, which PyTorch's public `varlen_attn` lacks.

    `aten::_flash_attention_forward` is private but differentiable and present from PyTorch 2.6 on.
    bounds: where sequences begin and end; they must cover all rows, for it leaves others unwritten.
    Shape: (tokens, 3, heads, head size) → (tokens, heads, head size).
    """
    q, k, v = split.unbind(1)
    near = {"window_size_left": window, "window_size_right": window} if window else {}
    out: Tensor = torch.ops.aten._flash_attention_forward(
        q, k, v, bounds, bounds, longest, longest, dropout, False, False, **near
    )[0]
    return out


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
    if not torch.is_grad_enabled() and dropout_p == 0 and calls.available(x):
        weight = projection.weight.to(x.dtype)
        return calls.first_token_attention(x.contiguous(), weight, projection.bias, layout, heads, window)
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


def rotated_first_token_attention(
    x: Tensor, projection: Projection, layout: Layout, heads: int, dropout_p: float, window: int, rotation: Rotation
) -> Tensor:
    """`first_token_attention` where positions turn queries and keys: keys are computed for all tokens, values are not.

    Queries' heads may share those of keys and values, as `repeated_heads` has it.

    Shape: x and the result as there; projection.weight ((heads + 2 * key and value heads) * head size, hidden).
    """
    size = rotation[0].shape[-1]
    by_query, by_key, by_value = _by_part(projection.weight, heads * size)
    query_bias, key_bias, value_bias = (
        (None, None, None) if projection.bias is None else _by_part(projection.bias, heads * size)
    )
    keys_bias = None if key_bias is None else key_bias.to(by_key.dtype)
    k = _turned(F.linear(x.to(by_key.dtype), by_key, keys_bias).view(len(x), -1, size), rotation)
    shared = heads * size // len(by_key)
    k = padded_float32(k.repeat_interleave(shared, 1).view(len(x), -1), layout).view(len(layout), -1, heads, size)
    first: Rotation = (rotation[0][layout.starts], rotation[1][layout.starts])
    q = F.linear(layout.first_tokens(x).float(), by_query.float(), query_bias).view(len(layout), heads, size)
    scores = torch.einsum("shd,slhd->shl", _turned(q, first) * size**-0.5, k)
    weights = dropout(torch.softmax(_hidden(scores, layout, window), dim=-1), dropout_p)
    mixed = torch.bmm(weights, padded_float32(x, layout)).transpose(0, 1)
    values = by_value.float().view(-1, size, x.shape[1]).repeat_interleave(shared, 0)
    context = torch.bmm(mixed, values.transpose(1, 2)).transpose(0, 1)
    if value_bias is not None:
        context = context + weights.sum(-1, keepdim=True) * value_bias.view(-1, size).repeat_interleave(shared, 0)
    return context.reshape(len(layout), heads * size).to(x.dtype)


def _by_part(stacked: Tensor, queries: int) -> tuple[Tensor, Tensor, Tensor]:
    """The rows of queries, of keys and of values. Shape: (queries + 2 * keys, …)."""
    rest = (len(stacked) - queries) // 2
    q, k, v = torch.split_with_sizes(stacked, [queries, rest, rest])
    return q, k, v


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
