"""Prediction with 8-bit products on CPUs that have VNNI: weights scaled by output channel, activations by token.

Embeddings, norms, attention, pooler and heads stay as they are. Only for prediction; callers check its accuracy on
their own data (`Model.check_int8`).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from bertune import processor
from bertune.encoder.encoder import Encoder, Layer
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Linear
from bertune.errors import InputError

ZERO = 128
"""The 8-bit value that stands for 0 in activations."""


def supported() -> bool:
    """Whether this machine multiplies 8-bit numbers natively, and PyTorch and the kernels can make it do so."""
    has_vnni = bool(processor.features() & {"avx512_vnni", "avx_vnni", "amx_int8"})
    return has_vnni and hasattr(torch.ops.onednn, "qlinear_pointwise") and calls.available(torch.empty(0))


class _Product(NamedTuple):
    """A weight matrix in 8 bits, in oneDNN's own order.

    scale: of every output channel. Shape: (outputs,), float32.  zero: zeros, one a channel.
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor

    def __call__(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Rows (T, inputs), as `quantize_rows` gives it, times the weight; rows still lack their own scale."""
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, 1.0, ZERO, self.packed, self.scale, self.zero, None, 1.0, 0, dtype, "none", [], ""
        )
        return result


def _quantized(linear: Linear) -> _Product:
    weight = linear.weight.detach().float()
    scale = weight.abs().amax(1).clamp(min=1e-12) / 127
    rounded = (weight / scale[:, None]).round().clamp(-127, 127).to(torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(rounded, None)
    return _Product(packed, scale, torch.zeros(len(scale), dtype=torch.int64))


class Int8Layer(nn.Module):
    """A layer of the encoder with its four products in 8 bits; see `fused_layer._forward` for the same in full."""

    def __init__(self, layer: Layer) -> None:
        super().__init__()
        self.heads = layer.attention.heads
        self.activation = layer.feed_forward.activation
        self.qkv, self.qkv_bias = _quantized(layer.attention.qkv), layer.attention.qkv.bias
        self.output, self.output_bias = _quantized(layer.attention.output), layer.attention.output.bias
        self.up, self.up_bias = _quantized(layer.feed_forward.up), layer.feed_forward.up.bias
        self.down, self.down_bias = _quantized(layer.feed_forward.down), layer.feed_forward.down.bias
        norm1, norm2 = layer.attention_norm, layer.feed_forward_norm
        self.norm1 = (norm1.weight, norm1.bias, norm1.eps)
        self.norm2 = (norm2.weight, norm2.bias, norm2.eps)

    def forward(self, x: Tensor, layout: Layout) -> Tensor:
        """Shape: (tokens, hidden) → (tokens, hidden)."""
        rows, scale = calls.quantize_rows(x)
        qkv = self.qkv(rows, x.dtype)
        context, _ = calls.attention(qkv, self.qkv_bias, layout, self.heads, row_scale=scale)
        rows, scale = calls.quantize_rows(context)
        middle, _ = calls.add_norm(self.output(rows, x.dtype), self.output_bias, x, self.norm1, row_scale=scale)
        rows, scale = calls.quantize_rows(middle)
        raised = self.up(rows, x.dtype)
        rows, scale = calls.bias_activation_quantized(raised, scale, self.up_bias, self.activation)
        out, _ = calls.add_norm(self.down(rows, x.dtype), self.down_bias, middle, self.norm2, row_scale=scale)
        return out


def quantize(encoder: Encoder, device: torch.device) -> None:
    """Turn the encoder's layers into `Int8Layer`s, in place; it can only predict then.

    Raises:
        InputError: the machine has no native 8-bit products, or the encoder's wiring has no 8-bit form.
    """
    if device.type != "cpu" or not supported():
        raise InputError(
            "--precision int8: only on a CPU with fast 8-bit products (VNNI) and PyTorch's oneDNN; take auto"
        )
    layers, known = list(encoder.layers), calls.ACTIVATION_CODES
    if not all(isinstance(one, Layer) and one.is_plain and one.feed_forward.activation in known for one in layers):
        wiring = f"{encoder.config.family} with hidden_act {encoder.config.hidden_act}"
        raise InputError(f"--precision int8: has no form for {wiring}; take auto")
    encoder.layers = nn.ModuleList(Int8Layer(layer) for layer in layers if isinstance(layer, Layer))
