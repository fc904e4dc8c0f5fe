"""Each kernel but attention equals the same in float64, at every instruction-set level; widths are no round numbers."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from bertune.encoder.kernels import calls

pytestmark = pytest.mark.usefixtures("level")
ROWS = 37
WIDTHS = [3, 21, 384]
"""Fewer than a vector, vectors and some, whole vectors."""
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 0.01}
"""Greatest error relative to the largest value."""
SEED = 2**40 + 12345
NUMBERS = calls.AdamWNumbers(3e-3, 0.9, 0.999, 1e-6, 0.1, 0.3, 0.2, 0.7)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
widths = pytest.mark.parametrize("width", WIDTHS)


def drawn(*shape: int, seed: int = 1, spread: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * spread


def is_near(found: Tensor, right: Tensor, within: float) -> bool:
    """Whether errors are small beside the largest value, and there is one where the right value has none."""
    assert found.shape == right.shape
    assert torch.equal(found.isnan(), right.isnan())
    scale = float(right.nan_to_num().abs().max()) or 1.0
    return float((found.double() - right.double()).nan_to_num().abs().max()) <= within * scale


def hashed(n: int, p: float, seed: int) -> np.ndarray:
    """What dropout multiplies n elements by: a hash of their index below p drops one (written anew in NumPy)."""
    x = np.arange(n, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(seed & 0xFFFFFFFF)
    x ^= x >> np.uint32(16)
    x *= np.uint32(0x7FEB352D)
    x ^= (x >> np.uint32(15)) ^ np.uint32(seed >> 32)
    x *= np.uint32(0x846CA68B)
    x ^= x >> np.uint32(16)
    return np.where(x >= np.uint32(int(p * 2**32)), np.float32(1 / (1 - p)), np.float32(0))


def mask(shape: torch.Size, p: float) -> Tensor:
    return torch.from_numpy(hashed(math.prod(shape), p, SEED)).view(shape)


@dtypes
@pytest.mark.parametrize("n", [1, 7, 1000])
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999])
def test_dropout(dtype: torch.dtype, n: int, p: float) -> None:
    x = drawn(n).to(dtype)
    found = calls.dropout(x, p, SEED)
    assert torch.equal(found, (x.float() * mask(x.shape, p)).to(dtype))
    if n == 1000:
        assert float((found == 0).float().mean()) == pytest.approx(p, abs=0.05)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
}


@dtypes
@widths
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bias_activation(dtype: torch.dtype, width: int, name: str) -> None:
    x, bias, gradient = drawn(ROWS, width, spread=3.0).to(dtype), drawn(width, seed=2), drawn(ROWS, width, seed=3)
    x[0, 0], x[1, 0], x[2, 0] = 80.0, -80.0, math.nan
    exact = (x.double() + bias.double()).requires_grad_()
    right = ACTIVATIONS[name](exact)
    right.backward(gradient.to(dtype).double())  # type: ignore[no-untyped-call]
    assert exact.grad is not None
    found = calls.bias_activation(x, bias, name)
    assert is_near(found[:2], right.detach()[:2], ROUNDING[dtype])
    assert is_near(found[2:], right.detach()[2:], ROUNDING[dtype] / 2)
    by_x = gradient.to(dtype)
    by_bias = calls.bias_activation_backward_(x, bias, name, by_x)
    clean = torch.arange(ROWS) != 2  # there a NaN came in
    assert is_near(by_x[clean], exact.grad[clean], ROUNDING[dtype])
    assert is_near(by_bias[1:], exact.grad.sum(0)[1:], ROUNDING[dtype])


@dtypes
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_on_a_fine_grid(dtype: torch.dtype, name: str) -> None:
    x = torch.linspace(-12, 12, 24001).to(dtype)[None]
    zero = torch.zeros(x.shape[1])
    exact = x.double().requires_grad_()
    right = ACTIVATIONS[name](exact)
    right.sum().backward()  # type: ignore[no-untyped-call]
    assert exact.grad is not None
    slope = torch.ones_like(x)
    calls.bias_activation_backward_(x, zero, name, slope)
    for found, expected in ((calls.bias_activation(x, zero, name), right.detach()), (slope, exact.grad)):
        error = (found.double() - expected).abs()
        allowed = 1e-6 if dtype == torch.float32 else 1.2e-4 + expected.abs() / 256
        if name == "relu":
            error = error[x != 0][None]
            allowed = 0.0
        assert bool((error <= allowed).all())


@dtypes
@widths
def test_dropout_of_rows_with_masks_of_their_own(dtype: torch.dtype, width: int) -> None:
    x, starts = drawn(3, width).to(dtype), torch.tensor([5, 2**32 + 700, 700])
    factors = torch.from_numpy(hashed(700 + width, 0.3, SEED))
    right = torch.stack([factors[start : start + width] for start in (5, 700, 700)])
    assert torch.equal(calls.dropout(x, 0.3, SEED, starts), (x.float() * right).to(dtype))


@dtypes
@widths
@pytest.mark.parametrize(("p", "own"), [(0.0, False), (0.1, False), (0.1, True)])
def test_add_norm(dtype: torch.dtype, width: int, p: float, own: bool) -> None:
    x, residual, gradient = (drawn(ROWS, width, seed=seed).to(dtype) for seed in (1, 2, 3))
    bias, weight, shift, scale = drawn(width, seed=4), drawn(width, seed=5), drawn(width, seed=6), drawn(ROWS, seed=7)
    leaves = [t.double().requires_grad_() for t in (x, bias, residual, weight, shift)]
    x64, bias64, residual64, weight64, shift64 = leaves
    starts = torch.arange(ROWS).flip(0) * 31 + 7 if own else None
    dropped = calls.Mask(p, SEED, starts)
    factors = calls.dropout(torch.ones(ROWS, width), p, SEED, starts).double() if own else mask(x.shape, p).double()
    right = F.layer_norm(residual64 + (x64 + bias64) * factors, (width,), weight64, shift64, 1e-5)
    right.backward(gradient.double())  # type: ignore[no-untyped-call]
    out, kept = calls.add_norm(x, bias, residual, (weight, shift, 1e-5), dropped, keep=True)
    assert kept is not None
    assert is_near(out, right.detach(), ROUNDING[dtype])
    by_residual, by_x, (by_weight, by_shift, by_bias) = calls.add_norm_backward(gradient, kept, weight, dropped)
    found = (by_x, by_bias, by_residual, by_weight, by_shift)
    for name, one, leaf in zip(("x", "bias", "residual", "weight", "shift"), found, leaves, strict=True):
        assert leaf.grad is not None
        assert is_near(one, leaf.grad, 5 * ROUNDING[dtype]), name
    scaled, _ = calls.add_norm(x, bias, residual, (weight, shift, 1e-5), row_scale=scale)
    with torch.no_grad():
        z = residual.double() + x.double() * scale[:, None].double() + bias.double()
        right = F.layer_norm(z, (width,), weight.double(), shift.double(), 1e-5)
    assert is_near(scaled, right, ROUNDING[dtype])


@dtypes
@pytest.mark.parametrize("shape", [(1, 1), (37, 21), (200, 1152), (5, 100)])
def test_sums(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    x = drawn(*shape).to(dtype)
    assert is_near(calls.column_sums(x), x.double().sum(0), 2e-6)
    assert calls.sum_of_squares(x) == pytest.approx(float(x.double().square().sum()), rel=1e-6)


def test_sum_of_squares_of_many() -> None:
    x = drawn(300_001)
    assert calls.sum_of_squares(x) == pytest.approx(float(x.double().square().sum()), rel=1e-7)


def quantized(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.abs().amax(1) / 127
    return x / scale[:, None] + 128, scale


@dtypes
@widths
def test_quantization(dtype: torch.dtype, width: int) -> None:
    x, row_scale, bias = drawn(ROWS, width, spread=2.0).to(dtype), drawn(ROWS, seed=2).abs() + 0.5, drawn(width, seed=3)
    x[3] = 0.0
    rest = torch.arange(ROWS) != 3
    values, scale = calls.quantize_rows(x)
    right, right_scale = quantized(x[rest].double())
    assert bool((values[3] == 128).all())
    assert float((values[rest].double() - right).abs().max()) <= 0.5001
    assert is_near(scale[rest], right_scale, 1e-6)
    for name, activation in ACTIVATIONS.items():
        exact = activation(x.double() * row_scale[:, None].double() + bias.double())
        alive = exact.abs().amax(1) > 1e-3
        values, scale = calls.bias_activation_quantized(x, row_scale, bias, name)
        right, right_scale = quantized(exact[alive])
        loose = 0.05 if dtype == torch.bfloat16 else 0.001  # in bfloat16 the activation itself is off by 4e-5
        assert float((values[alive].double() - right).abs().max()) <= 0.5 + loose
        assert is_near(scale[alive], right_scale, 1e-6 if dtype == torch.float32 else 1e-3)


def adamw(weight: Tensor, m: Tensor, v: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """In float64: the new weight and moments."""
    n, g = NUMBERS, gradient.double() * NUMBERS.scale
    m = n.beta1 * m.double() + (1 - n.beta1) * g
    v = n.beta2 * v.double() + (1 - n.beta2) * g * g
    root = (v / n.bias2).sqrt() + n.eps
    return weight.double() * (1 - n.learning_rate * n.decay) - n.learning_rate / n.bias1 * m / root, m, v


@dtypes
@pytest.mark.parametrize("n", [1, 21, 4099])
@pytest.mark.parametrize("has_gradient", [True, False])
def test_adamw(dtype: torch.dtype, n: int, has_gradient: bool) -> None:
    weight, m, v, gradient = drawn(n), drawn(n, seed=2), drawn(n, seed=3).abs(), drawn(n, seed=4).to(dtype)
    working = weight if dtype == torch.float32 else weight.to(dtype)
    right = adamw(weight, m, v, gradient if has_gradient else torch.zeros(n))
    calls.adamw(weight, m, v, gradient if has_gradient else None, working, NUMBERS)
    for found, expected in zip((weight, m, v), right, strict=True):
        assert is_near(found, expected, 1e-6)
    assert torch.equal(working, weight.to(dtype))


@widths
def test_adamw_rows(width: int) -> None:
    weight, m, v, gradient = drawn(6, width), drawn(6, width, seed=2), drawn(6, width, seed=3).abs(), drawn(2, width)
    places = torch.tensor([-1, 1, -1, 0, -1, -1], dtype=torch.int32)
    seen = torch.tensor([0, 0, 1, 1, 0, 1], dtype=torch.uint8)
    m[seen == 0], v[seen == 0] = 0, 0
    dense = torch.zeros(6, width)
    dense[1], dense[3] = gradient[1], gradient[0]
    right = adamw(weight, m, v, dense)
    calls.adamw_rows(weight, m, v, gradient, (places, seen), NUMBERS)
    for found, expected in zip((weight, m, v), right, strict=True):
        assert is_near(found, expected, 1e-6)
    assert seen.tolist() == [0, 1, 1, 1, 0, 1]
