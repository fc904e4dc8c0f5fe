"""Prediction with 8-bit products on a CPU: weights scaled by output channel, activations by token.

Embeddings, norms, attention, pooler and heads stay as they are. Only for prediction; callers check its accuracy on
their own data (`Model.check_int8`).
"""

import functools
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bertune import processor
from bertune.encoder.encoder import Encoder, Layer
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Linear, Projection, first_token_attention
from bertune.errors import InputError
from bertune.fastest import fastest

ZERO = 128
"""The 8-bit value that stands for 0 in activations."""


def has_dot_products() -> bool:
    """Whether this processor has instructions for 8-bit dot products (VNNI), which add without saturating."""
    return bool(processor.features() & {"avx512_vnni", "avx_vnni", "amx_int8"})


def supported() -> bool:
    """Whether PyTorch and the kernels can multiply 8-bit numbers here."""
    return hasattr(torch.ops.onednn, "qlinear_pointwise") and calls.available(torch.empty(0))


def is_faster(dtype: torch.dtype) -> bool:
    """Whether 8-bit products are faster than those in full: with VNNI always, else as measured once on this machine.

    dtype: of the products in full.
    """
    if has_dot_products():
        return True
    generator = torch.Generator().manual_seed(0)
    x = torch.empty(256, 768).normal_(generator=generator).to(dtype)
    full = Linear(768, 768, bias=False)
    full.weight.data = torch.empty(768, 768).normal_(generator=generator).to(dtype)
    full.requires_grad_(requires_grad=False)
    full.pack()
    eight = _quantized(full)

    def in_full() -> None:
        with torch.no_grad():
            full.product(x)

    def in_8_bits() -> None:
        rows, _ = calls.quantize_rows(x)
        eight(rows, dtype)

    return fastest(f"8-bit products against {dtype}", {"full": in_full, "8 bits": in_8_bits}) == "8 bits"


@functools.cache
def largest_weight() -> int:
    """The largest absolute value of an 8-bit weight: 127, or 63 where larger ones could saturate.

    Without VNNI, products go through `vpmaddubsw`, which adds two of them in 16 bits: up to 2 · 255 · 127, too much;
    2 · 255 · 63 fits. Libraries may be held to fewer instructions than the processor has, so the largest possible sum
    is computed too.
    """
    if not has_dot_products():
        return 63
    largest = _packed(torch.full((64, 64), 127, dtype=torch.int8), torch.ones(64))
    sums = largest(torch.full((64, 64), 255, dtype=torch.uint8), torch.float32)
    return 127 if bool((sums == 64 * (255 - ZERO) * 127).all()) else 63


class _Product(NamedTuple):
    """A weight matrix in 8 bits, in oneDNN's own order.

    scale: of every output channel. Shape: (outputs,), float32.  zero: zeros, one a channel.
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor
    inputs: int

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which do not take oneDNN's own order: the matrix is read back by multiplying it."""
        ones = torch.ones_like(self.scale)
        eye = torch.eye(self.inputs, dtype=torch.uint8) + ZERO
        product = torch.ops.onednn.qlinear_pointwise(
            eye, 1.0, ZERO, self.packed, ones, self.zero, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return _packed, (product.T.round().to(torch.int8).contiguous(), self.scale)

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows (T, inputs), as `quantize_rows` gives it, times the weight; rows still lack their own scale."""
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 1.0, ZERO, self.packed, self.scale, self.zero, None, 1.0, 0, dtype, "none", [], ""
        )
        return result


def _quantized(linear: Linear) -> _Product:
    weight, most = linear.weight.detach().float(), largest_weight()
    scale = weight.abs().amax(1).clamp(min=1e-12) / most
    return _packed((weight / scale[:, None]).round().clamp(-most, most).to(torch.int8), scale)


def _packed(weight: Tensor, scale: Tensor) -> _Product:
    """An 8-bit weight in oneDNN's order. Shape: (outputs, inputs), (outputs,)."""
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    return _Product(packed, scale, torch.zeros(len(scale), dtype=torch.int64), weight.shape[1])


class Int8Layer(nn.Module):
    """A layer of the encoder with its four products in 8 bits; see `encoder._forward` for the same in full."""

    def __init__(self, layer: Layer, *, is_last: bool = False) -> None:
        """is_last: also keep the projection of queries, keys and values in full, for `first_only`."""
        super().__init__()
        self.projection = Projection(layer.attention.qkv.weight, layer.attention.qkv.bias) if is_last else None
        self.heads = layer.attention.heads
        self.activation = layer.feed_forward.activation
        self.qkv, self.qkv_bias = _quantized(layer.attention.qkv), layer.attention.qkv.bias
        self.output, self.output_bias = _quantized(layer.attention.output), layer.attention.output.bias
        self.up, self.up_bias = _quantized(layer.feed_forward.up), layer.feed_forward.up.bias
        self.down, self.down_bias = _quantized(layer.feed_forward.down), layer.feed_forward.down.bias
        norm1, norm2 = layer.attention_norm, layer.feed_forward_norm
        self.norm1 = (norm1.weight, norm1.bias, norm1.eps)
        self.norm2 = (norm2.weight, norm2.bias, norm2.eps)

    def forward(self, x: Tensor, layout: Layout, *, first_only: bool = False) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden); with `first_only` → (sequences, hidden), for the first tokens."""
        if first_only and self.projection is not None:
            context = first_token_attention(x, self.projection, layout, self.heads, 0.0)
            x = layout.first_tokens(x)
        else:
            rows, scale = calls.quantize_rows(x)
            qkv = self.qkv(rows, x.dtype)
            context, _ = calls.attention(qkv, self.qkv_bias, layout, self.heads, row_scale=scale)
        rows, scale = calls.quantize_rows(context)
        middle, _ = calls.add_norm(self.output(rows, x.dtype), self.output_bias, x, self.norm1, row_scale=scale)
        rows, scale = calls.quantize_rows(middle)
        hidden = self.up(rows, x.dtype)
        rows, scale = calls.bias_activation_quantized(hidden, scale, self.up_bias, self.activation)
        out, _ = calls.add_norm(self.down(rows, x.dtype), self.down_bias, middle, self.norm2, row_scale=scale)
        return out


class Int8Linear(nn.Module):
    """A product in 8 bits in a layer that is wired otherwise than BERT's; takes the place of a `Linear`."""

    def __init__(self, linear: Linear, *, keep: bool) -> None:
        """keep: also keep the matrix in full, for what reads it directly."""
        super().__init__()
        self.weight = linear.weight if keep else None
        self.bias = linear.bias
        self.has_bias, self.dtype = linear.has_bias, linear.weight.dtype
        self.product = _quantized(linear)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: (tokens, inputs) → (tokens, outputs)."""
        rows, scale = calls.quantize_rows(x.to(self.dtype).contiguous())
        result = self.product(rows, self.dtype) * scale[:, None]
        return (result + self.bias if self.has_bias else result).to(self.dtype)


def quantize(encoder: Encoder, device: torch.device) -> None:
    """Turn the layers' products into 8 bits, in place; the encoder can only predict then.

    Layers that are wired as BERT's become `Int8Layer`s; in others each `Linear` becomes an `Int8Linear`, and norms,
    activations and attention stay PyTorch's.

    Raises:
        InputError: not on a CPU, or no compiled kernels.
    """
    if device.type != "cpu" or not supported():
        raise InputError(
            "--precision int8: only on a CPU, with PyTorch's oneDNN and bertune's compiled kernels; take auto"
        )
    layers, known = [layer for layer in encoder.layers if isinstance(layer, Layer)], calls.ACTIVATION_CODES
    if all(layer.is_plain and layer.feed_forward.activation in known for layer in layers):
        encoder.layers = nn.ModuleList(Int8Layer(layer, is_last=layer is layers[-1]) for layer in layers)
        return
    for layer in layers:
        # `RelativeScores`, and attention for first tokens alone in the last layer, read the matrix itself.
        keep = encoder.config.relative_shared or layer is layers[-1]
        for part, name in (
            (layer.attention, "qkv"),
            (layer.attention, "output"),
            (layer.feed_forward, "up"),
            (layer.feed_forward, "down"),
        ):
            setattr(part, name, Int8Linear(getattr(part, name), keep=keep and name == "qkv"))


def is_quantized(encoder: Encoder) -> bool:
    """Whether the encoder's products are in 8 bits, which have no gradients."""
    return any(isinstance(module, Int8Layer | Int8Linear) for module in encoder.modules())
