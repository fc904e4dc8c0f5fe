"""The compiled kernels as functions on tensors. Callers ask `available` first.

Letters: T rows of the token axis, H hidden size, I width inside the feed-forward part.
"""

import ctypes
import functools
from typing import NamedTuple

import torch
from torch import Tensor

from bertune import processor
from bertune.encoder.kernels.build import library
from bertune.encoder.layout import Layout

ACTIVATION_CODES = {"gelu": 0, "gelu_tanh": 1, "relu": 2}


SLOWER = frozenset(("column_sums", "float32", level) for level in ("x86-64-v4-bf16", "x86-64-v4", "x86-64-v3"))
"""Kernels, types and levels where PyTorch's operation was the faster one (`python -m benchmarks.kernels`, LOG.md)."""


class Mask(NamedTuple):
    """What is dropped.

    p, seed: the probability, and what all masks of a batch follow from.
    starts: the number that the mask of every row, or in attention of every sequence, begins at (see
        `Layout.row_masks`); None: they follow each other in the batch. Shape: (rows,), int64.
    """

    p: float = 0.0
    seed: int = 0
    starts: Tensor | None = None


NO_MASK = Mask()


def available(tensor: Tensor) -> bool:
    """Whether the kernels take this tensor: on the CPU, of a type they are compiled for. Shape: any."""
    return tensor.device.type == "cpu" and library(tensor.dtype) is not None


def new_seed() -> int:
    """A 63-bit seed from PyTorch's own generator, so that `torch.manual_seed` and saved states govern the masks."""
    return int(torch.randint(2**63 - 1, ()).item())


class Norm(NamedTuple):
    """What the backward pass through LayerNorm(residual + dropout(x + bias)) needs.

    z: the sum before normalisation. Shape: (T, H).  mean, rstd: its row statistics. Shape: (T,), float32.
    """

    z: Tensor
    mean: Tensor
    rstd: Tensor


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    if tensor is None:
        return ctypes.c_void_p(None)
    if not tensor.is_contiguous():
        raise ValueError("the CPU kernels take contiguous tensors only")
    return ctypes.c_void_p(tensor.data_ptr())


def _call(dtype: torch.dtype, name: str, *arguments: Tensor | int | float | None) -> None:
    """Call a kernel: tensors as pointers, whole numbers as int64 (seeds too), others as double: mind float(…)."""
    compiled = library(dtype)
    if compiled is None:
        raise RuntimeError(f"no CPU kernels for {dtype}")
    converted: list[ctypes.c_void_p | ctypes.c_int64 | ctypes.c_double | ctypes.c_int] = [
        ctypes.c_int(torch.get_num_threads())
    ]
    for argument in arguments:
        if argument is None or isinstance(argument, Tensor):
            converted.append(_pointer(argument))
        elif isinstance(argument, int):
            converted.append(ctypes.c_int64(argument))
        else:
            converted.append(ctypes.c_double(argument))
    if getattr(compiled, name)(*converted):
        raise MemoryError(f"the CPU kernel {name} could not get its working memory")


def dropout(x: Tensor, p: float, seed: int, starts: Tensor | None = None) -> Tensor:
    """Elements of `x` dropped with probability `p`, the rest scaled by 1 / (1 - p); on a gradient, its own backward.

    starts: as in `Mask`, a row being what the last dimension holds.

    Shape: any → the same.
    """
    x = x.contiguous()
    out = torch.empty_like(x)
    if starts is None:
        _call(x.dtype, "bertune_dropout", x.numel(), x, float(p), seed, out)
    elif x.numel():
        if starts.numel() * x.shape[-1] != x.numel():
            raise ValueError(f"{starts.numel()} masks for {x.numel() // x.shape[-1]} rows")
        _call(x.dtype, "bertune_dropout_rows", starts.numel(), x.shape[-1], x, starts, float(p), seed, out)
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, mask: Mask) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.mask = mask
        return dropout(x, *mask)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        return dropout(gradient, *ctx.mask), None


def differentiable_dropout(x: Tensor, p: float, starts: Tensor | None = None) -> Tensor:
    """`dropout` with a new seed, inside autograd. starts: as in `Mask`. Shape: any → the same."""
    result: Tensor = _Dropout.apply(x, Mask(p, new_seed(), starts))  # type: ignore[no-untyped-call]
    return result


def add_norm(
    x: Tensor,
    bias: Tensor,
    residual: Tensor,
    norm: tuple[Tensor, Tensor, float],
    mask: Mask = NO_MASK,
    *,
    keep: bool = False,
    row_scale: Tensor | None = None,
) -> tuple[Tensor, Norm | None]:
    """LayerNorm(residual + dropout(x + bias)).

    Args:
        x: Shape: (T, H).
        bias: Shape: (H,), float32.
        residual: Shape: (T, H).
        norm: weight and bias, Shape: (H,), float32, and epsilon.
        mask: dropout's.
        keep: whether to return what the backward pass needs.
        row_scale: multiplies the rows of x first, where they come from quantized ones. Shape: (T,), float32.
    """
    rows, width = x.shape
    weight, shift, eps = norm
    p, seed, starts = mask
    out = torch.empty_like(x)
    kept = None
    if keep:
        kept = Norm(torch.empty_like(x), x.new_empty(rows, dtype=torch.float32), x.new_empty(rows, dtype=torch.float32))
    z, mean, rstd = kept or (None, None, None)
    _call(
        x.dtype,
        "bertune_add_norm_forward",
        rows,
        width,
        x,
        row_scale,
        bias,
        residual,
        weight,
        shift,
        float(eps),
        starts,
        float(p),
        seed,
        z,
        mean,
        rstd,
        out,
    )
    return out, kept


def add_norm_backward(gradient: Tensor, kept: Norm, weight: Tensor, mask: Mask) -> tuple[Tensor, Tensor, Tensor]:
    """The backward pass of `add_norm`.

    Returns: the residual's gradient and x's, Shape: (T, H) (one tensor when nothing was dropped); gradients of the
    norm's weight and bias and of x's bias, Shape: (3, H), float32.
    """
    rows, width = gradient.shape
    for_residual = torch.empty_like(gradient)
    for_x = torch.empty_like(gradient) if mask.p > 0 else for_residual
    sums = weight.new_empty(3, width)
    _call(
        gradient.dtype,
        "bertune_add_norm_backward",
        rows,
        width,
        gradient,
        *kept,
        weight,
        mask.starts,
        float(mask.p),
        mask.seed,
        for_residual,
        for_x,
        sums,
    )
    return for_residual, for_x, sums


def bias_activation(x: Tensor, bias: Tensor, activation: str) -> Tensor:
    """activation(x + bias). Shape: (T, I); bias: (I,), float32."""
    out = torch.empty_like(x)
    _call(x.dtype, "bertune_bias_activation_forward", *x.shape, x, bias, ACTIVATION_CODES[activation], out)
    return out


def bias_activation_backward_(x: Tensor, bias: Tensor, activation: str, gradient: Tensor) -> Tensor:
    """Turn `gradient` (T, I) into that of x + bias, in place; return the bias's. Shape: (I,), float32."""
    sums = torch.empty_like(bias)
    _call(x.dtype, "bertune_bias_activation_backward", *x.shape, x, bias, ACTIVATION_CODES[activation], gradient, sums)
    return sums


def pytorch_serves(kernel: str, dtype: torch.dtype) -> bool:
    """Whether PyTorch's operation serves in a kernel's place at this level; see SLOWER."""
    return _is_slower(kernel, dtype, library(dtype))


@functools.cache
def _is_slower(kernel: str, dtype: torch.dtype, _: ctypes.CDLL | None) -> bool:
    """Asked once for each compiled library, whose level stays the same."""
    return (kernel, str(dtype).removeprefix("torch."), processor.level()) in SLOWER


def column_sums(x: Tensor) -> Tensor:
    """Sum over rows. Shape: (T, C) → (C,), float32."""
    if pytorch_serves("column_sums", x.dtype):
        return x.sum(0)
    sums = x.new_empty(x.shape[1], dtype=torch.float32)
    _call(x.dtype, "bertune_column_sums", *x.shape, x, sums)
    return sums


def attention(
    qkv: Tensor,
    bias: Tensor,
    layout: Layout,
    heads: int,
    mask: Mask = NO_MASK,
    *,
    keep: bool = False,
    row_scale: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Every sequence attends to itself: softmax(q kᵀ / √D) v, head by head.

    Args:
        qkv: queries, keys and values side by side, without bias. Shape: (T, 3H).
        bias: their bias. Shape: (3H,), float32.
        layout: where the sequences lie.
        heads: attention heads.
        mask: dropout's.
        keep: whether to return the logarithms of the softmax denominators, (T, heads), for the backward pass.
        row_scale: multiplies the rows of qkv first, where they come from quantized ones. Shape: (T,), float32.
    """
    width = qkv.shape[1] // 3
    out = _rows(qkv, width, layout)
    denominators = qkv.new_empty(qkv.shape[0], heads, dtype=torch.float32) if keep else None
    _call(
        qkv.dtype,
        "bertune_attention_forward",
        *_places(layout, heads, width),
        qkv,
        row_scale,
        bias,
        mask.starts,
        float(mask.p),
        mask.seed,
        out,
        denominators,
    )
    return out, denominators


def attention_backward(
    gradient: Tensor,
    forward: tuple[Tensor, Tensor, Tensor, Tensor],
    layout: Layout,
    heads: int,
    mask: Mask,
) -> Tensor:
    """The gradient of `qkv` from that of attention's result; `forward`: (qkv, bias, result, denominators).

    Shape: (T, hidden) → (T, 3 * hidden).
    """
    qkv, bias, out, denominators = forward
    width = gradient.shape[1]
    result = _rows(qkv, 3 * width, layout)
    places = _places(layout, heads, width)
    _call(
        qkv.dtype,
        "bertune_attention_backward",
        *places,
        qkv,
        bias,
        mask.starts,
        float(mask.p),
        mask.seed,
        out,
        denominators,
        gradient,
        result,
    )
    return result


def first_token_attention(
    x: Tensor, weight: Tensor, bias: Tensor | None, layout: Layout, heads: int, window: int
) -> Tensor:
    """`encoder.modules.first_token_attention` without dropout. Every sequence's result is that of it alone.

    Args:
        x: the layer's input. Shape: (T, H).
        weight: of queries, keys and values, in x's type. Shape: (3H, H).
        bias: theirs. Shape: (3H,), float32.
        layout: where the sequences lie.
        heads: attention heads.
        window: tokens that the first token attends to on its right; 0: all of its sequence.

    Returns: Shape: (sequences, H).
    """
    out = x.new_empty(len(layout), x.shape[1])
    sequences, starts, lengths, longest, _, _, size = _places(layout, heads, x.shape[1])
    _call(
        x.dtype, "bertune_first_tokens", sequences, starts, lengths, longest, heads, size, window, x, weight, bias, out
    )
    return out


def row_products(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Give x weightᵀ + bias; a row's result does not depend on how many others there are, as libraries' do.

    Shape: (M, K), (N, K), (N,) → (M, N), all float32.
    """
    out = x.new_empty(len(x), len(weight))
    _call(x.dtype, "bertune_row_products", *out.shape, x.shape[1], x, weight, bias, out)
    return out


@functools.cache
def tiles_work() -> bool:
    """Whether this processor multiplies bfloat16 in the tiles of AMX, and the system lets this process use them."""
    compiled = library(torch.bfloat16)
    if compiled is None or "amx_bf16" not in processor.features():
        return False
    return bool(compiled.bertune_tiles_permitted(ctypes.c_int(1)) == 0)


def to_tiles(weight: Tensor) -> Tensor | None:
    """A weight as `tile_products` takes it; None where it cannot.

    Shape: (outputs, inputs), bfloat16 → (outputs / 16, inputs / 32, 16, 16, 2).
    """
    outputs, inputs = weight.shape
    if weight.dtype != torch.bfloat16 or weight.device.type != "cpu" or outputs % 16 or inputs % 32 or not tiles_work():
        return None
    return weight.view(outputs // 16, 16, inputs // 32, 16, 2).permute(0, 2, 3, 1, 4).contiguous()


def tile_products(x: Tensor, tiles: Tensor, bias: Tensor | None) -> Tensor:
    """Give x weightᵀ + bias of a weight `to_tiles`; a row's result does not depend on how many others there are.

    Shape: (M, inputs), (outputs / 16, …), (outputs,) float32 → (M, outputs), bfloat16.
    """
    out = x.new_empty(len(x), len(tiles) * 16)
    _call(x.dtype, "bertune_tile_products", *out.shape, x.shape[1], x, tiles, bias, out)
    return out


def _rows(like: Tensor, width: int, layout: Layout) -> Tensor:
    """Room for one row a token; zeros where some rows belong to no sequence."""
    if layout.is_packed and layout.real == layout.total:
        return like.new_empty(layout.total, width)
    return like.new_zeros(layout.total, width)


def _places(layout: Layout, heads: int, width: int) -> tuple[int, Tensor, Tensor, int, int, int, int]:
    return len(layout), layout.starts, layout.lengths, layout.longest, layout.stride, heads, width // heads


class AdamWNumbers(NamedTuple):
    """The numbers of one update. bias1, bias2: 1 - betaᵗ, or 1 without correction; scale: multiplies the gradient."""

    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    decay: float
    bias1: float
    bias2: float
    scale: float


def adamw(
    master: Tensor, m: Tensor, v: Tensor, gradient: Tensor | None, working: Tensor, numbers: AdamWNumbers
) -> None:
    """Update a float32 weight and its moments in place, and the working copy when it is another tensor.

    gradient: of the working copy's type, or float32 with a float32 working copy; None stands for zeros.

    Shape: any, the same for all.
    """
    copy = None if working.data_ptr() == master.data_ptr() else working
    if gradient is not None and gradient.dtype != working.dtype:
        raise ValueError(f"gradient {gradient.dtype}, weight {working.dtype}")
    dense = None if gradient is None else gradient.contiguous()
    _call(working.dtype, "bertune_adamw", master.numel(), master, m, v, dense, copy, *map(float, numbers))


def adamw_rows(
    master: Tensor, m: Tensor, v: Tensor, gradient: Tensor, rows: tuple[Tensor, Tensor], numbers: AdamWNumbers
) -> None:
    """Update a table in place of which few rows have a gradient.

    gradient: Shape: (touched, width).  rows: for every row its place in `gradient` or -1 (int32), and whether it ever
    had one (uint8, updated here). Shape: (rows,).
    """
    places, seen = rows
    _call(master.dtype, "bertune_adamw_rows", *master.shape, master, m, v, gradient, places, seen, *map(float, numbers))


def sum_of_squares(x: Tensor) -> float:
    """Sum of x², in double precision. Shape: any → ()."""
    total = torch.zeros((), dtype=torch.float64)
    _call(x.dtype, "bertune_sum_of_squares", x.numel(), x, total)
    return float(total)


def quantize_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Every row in 8 bits, 128 standing for zero, and what to multiply it by. Shape: (T, H) → (T, H) uint8, (T,)."""
    out, scale = torch.empty(x.shape, dtype=torch.uint8), x.new_empty(x.shape[0], dtype=torch.float32)
    _call(x.dtype, "bertune_quantize_rows", *x.shape, x, out, scale)
    return out, scale


def bias_activation_quantized(x: Tensor, row_scale: Tensor, bias: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """activation(x · row_scale + bias) as `quantize_rows` gives it. Shape: (T, I) → (T, I) uint8, (T,)."""
    out, scale = torch.empty(x.shape, dtype=torch.uint8), torch.empty_like(row_scale)
    code = ACTIVATION_CODES[activation]
    _call(x.dtype, "bertune_bias_activation_quantized", *x.shape, x, row_scale, bias, code, out, scale)
    return out, scale
