"""One attention, for packed and padded layouts; the layout and the device pick the kernel."""

import functools
import logging

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bertune.encoder.config import EncoderConfig
from bertune.encoder.first_token import Projection, first_query_attention, first_token_attention
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Linear
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
        if first_only and rotation is None:
            projection = Projection(self.qkv.weight, self.qkv.bias)
            first: Tensor = self.output(first_token_attention(x, projection, layout, self.heads, p, self.window))
            return first
        qkv = self.qkv(x)
        if self.key_value_heads < self.heads:
            qkv = repeated_heads(qkv, self.heads, self.key_value_heads)
        if rotation is not None:
            qkv = rotated(qkv, self.heads, rotation)
        attention = first_query_attention if first_only else attend
        context: Tensor = attention(qkv, layout, self.heads, p, self.window)
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


def rotation_of(positions: Tensor, head_size: int, base: float) -> Rotation:
    """The angles position · base^(-2i / head size) of rotary positions (Su et al., 2021), for both halves of a head."""
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions.float()[:, None] * (1.0 / base**exponents)
    both = torch.cat([angles, angles], dim=-1)[:, None, :]
    return both.cos(), both.sin()


def rotated(qkv: Tensor, heads: int, rotation: Rotation) -> Tensor:
    """Queries and keys turned: dimensions i and i + head size / 2 are one plane. Shape: (tokens, 3 * hidden)."""
    cos, sin = rotation
    tokens, width = qkv.shape[0], qkv.shape[1] // 3
    q, k, v = qkv.view(tokens, 3, heads, width // heads).unbind(1)

    def turned(x: Tensor) -> Tensor:
        first, second = x.float().chunk(2, dim=-1)
        return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)

    return torch.stack([turned(q), turned(k), v], dim=1).view(tokens, 3 * width)


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
