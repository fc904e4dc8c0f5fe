"""One BERT layer on the CPU as a single step of autograd, its products in PyTorch and all between them in kernels.

Equal in meaning to `Layer.forward`, which is its reference (tests compare them). Written out by hand because it saves
most of the memory traffic: biases ride in the passes that follow the products, residual gradients are added by the
products themselves, and dropout masks are computed twice instead of stored.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout


@dataclass(frozen=True)
class _Settings:
    """What a layer needs to know besides tensors."""

    layout: Layout
    heads: int
    activation: str
    eps: float
    attention_mask: tuple[float, int]
    first_mask: tuple[float, int]
    second_mask: tuple[float, int]


class LayerWeights(NamedTuple):
    """A layer's weights and biases; matrices are (out, in), all others (width,)."""

    qkv: Tensor
    qkv_bias: Tensor
    output: Tensor
    output_bias: Tensor
    attention_norm: Tensor
    attention_norm_bias: Tensor
    up: Tensor
    up_bias: Tensor
    down: Tensor
    down_bias: Tensor
    feed_forward_norm: Tensor
    feed_forward_norm_bias: Tensor


class LayerNumbers(NamedTuple):
    """A layer's numbers. dropout, attention_dropout: probabilities, 0 outside training."""

    heads: int
    activation: str
    eps: float
    dropout: float
    attention_dropout: float


Product = Callable[[Tensor], Tensor]
"""A linear layer's product, without its bias. Shape: (tokens, in) → (tokens, out)."""


def applies_to(x: Tensor, activation: str, *, plain: bool) -> bool:
    """Whether this device and type, an activation, and a layer's wiring (`plain`: BERT's) have the fused form.

    x: Shape: any.
    """
    return plain and activation in calls.ACTIVATION_CODES and calls.available(x)


def run(
    x: Tensor, layout: Layout, weights: LayerWeights, numbers: LayerNumbers, products: Callable[[], tuple[Product, ...]]
) -> Tensor:
    """`Layer.forward` in fused form. Shape: (tokens, hidden) → (tokens, hidden).

    products: the four products of queries, keys and values, attention's output, up and down, for use without gradients,
        where matrices may be packed.
    """
    hidden_p, attention_p = numbers.dropout, numbers.attention_dropout
    settings = _Settings(
        layout,
        numbers.heads,
        numbers.activation,
        numbers.eps,
        (attention_p, calls.new_seed() if attention_p else 0),
        (hidden_p, calls.new_seed() if hidden_p else 0),
        (hidden_p, calls.new_seed() if hidden_p else 0),
    )
    if not torch.is_grad_enabled():
        return _forward(x, products(), weights, settings, keep=False)[0]
    result: Tensor = _FusedLayer.apply(settings, x, *weights)  # type: ignore[no-untyped-call]
    return result


def _forward(
    x: Tensor, products: tuple[Product, ...], parameters: tuple[Tensor, ...], settings: _Settings, *, keep: bool
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The layer's output and, when asked, what backward needs.

    products: with the matrices of queries, keys and values; of attention's output; up; and down.
    """
    by_qkv, by_out, by_up, by_down = products
    _, b_qkv, _, b_out, norm1, shift1, _, b_up, _, b_down, norm2, shift2 = parameters
    qkv = by_qkv(x)
    context, denominators = calls.attention(
        qkv, b_qkv, settings.layout, settings.heads, settings.attention_mask, keep=keep
    )
    attended = by_out(context)
    middle, kept1 = calls.add_norm(attended, b_out, x, (norm1, shift1, settings.eps), settings.first_mask, keep=keep)
    up = by_up(middle)
    active = calls.bias_activation(up, b_up, settings.activation)
    down = by_down(active)
    out, kept2 = calls.add_norm(down, b_down, middle, (norm2, shift2, settings.eps), settings.second_mask, keep=keep)
    if kept1 is None or kept2 is None or denominators is None:
        return out, ()
    return out, (qkv, context, denominators, *kept1, middle, up, active, *kept2)


def _times(weight: Tensor, x: Tensor) -> Tensor:
    return torch.mm(x, weight.t())


class _FusedLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx, settings: _Settings, x: Tensor, *parameters: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        x = x.contiguous()
        products = tuple(partial(_times, weight) for weight in parameters if weight.ndim > 1)
        out, kept = _forward(x, products, parameters, settings, keep=True)
        ctx.settings = settings
        ctx.save_for_backward(x, *parameters, *kept)
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[no-untyped-def]
        settings: _Settings = ctx.settings
        x, w_qkv, b_qkv, w_out, _, norm1, _, w_up, b_up, w_down, _, norm2, _, *kept = ctx.saved_tensors
        qkv, context, denominators, z1, mean1, rstd1, middle, up, active, z2, mean2, rstd2 = kept

        d_middle, d_down, sums2 = calls.add_norm_backward(
            gradient.contiguous(), calls.Norm(z2, mean2, rstd2), norm2, settings.second_mask
        )
        d_w_down = torch.mm(d_down.t(), active)
        d_up = torch.mm(d_down, w_down)
        d_b_up = calls.bias_activation_backward_(up, b_up, settings.activation, d_up)
        d_w_up = torch.mm(d_up.t(), middle)
        d_middle.addmm_(d_up, w_up)

        d_x, d_attended, sums1 = calls.add_norm_backward(
            d_middle, calls.Norm(z1, mean1, rstd1), norm1, settings.first_mask
        )
        d_w_out = torch.mm(d_attended.t(), context)
        d_context = torch.mm(d_attended, w_out)
        d_qkv = calls.attention_backward(
            d_context, (qkv, b_qkv, context, denominators), settings.layout, settings.heads, settings.attention_mask
        )
        d_b_qkv = calls.column_sums(d_qkv)
        d_w_qkv = torch.mm(d_qkv.t(), x)
        d_x.addmm_(d_qkv, w_qkv)
        return (
            None,
            d_x,
            *(d_w_qkv, d_b_qkv, d_w_out, sums1[2], sums1[0], sums1[1]),
            *(d_w_up, d_b_up, d_w_down, sums2[2], sums2[0], sums2[1]),
        )
