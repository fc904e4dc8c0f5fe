"""Every kernel beside the PyTorch operations that it replaces, at each instruction-set level of this machine.

python -m benchmarks.kernels [--levels x86-64-v3,…] [--encoder minilm|bert-base] [--seconds 0.3] [--json]

A level is measured in a process of its own, in which PyTorch, oneDNN and MKL are held to it too. Sizes are those of a
batch of 32 MRPC pairs: 1,696 tokens. Both sides of a line run in turn; milliseconds are medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

from benchmarks.machine import ROOT, describe, machine, save_result
from bertune import processor
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout

LENGTHS = [29, 77] * 8 + [41, 65] * 4 + [53] * 8
"""Tokens of 32 sequences, 1,696 together."""
P = 0.1
MASK = calls.Mask(P, 12345)
NUMBERS = calls.AdamWNumbers(1e-5, 0.9, 0.999, 1e-8, 0.01, 0.5, 0.5, 0.9)


class Sizes(NamedTuple):
    """Of an encoder."""

    hidden: int
    inner: int
    heads: int


SIZES = {"minilm": Sizes(384, 1536, 12), "bert-base": Sizes(768, 3072, 12)}


class Line(NamedTuple):
    """A kernel's name, its call, and PyTorch's operations that give the same."""

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]


def activation_lines(sizes: Sizes, dtype: torch.dtype) -> Iterator[Line]:
    """The pass between the products of the feed-forward part."""
    x, gradient = (torch.randn(sum(LENGTHS), sizes.inner).to(dtype) for _ in range(2))
    bias = torch.randn(sizes.inner)
    half = bias.to(dtype)
    operations: dict[str, Callable[[Tensor], Tensor]] = {
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "relu": F.relu,
    }
    for name, operation in operations.items():
        yield Line(
            f"bias_activation {name}",
            lambda name=name: calls.bias_activation(x, bias, name),  # type: ignore[misc]
            lambda operation=operation: operation(x + half),  # type: ignore[misc]
        )
    forms = {"gelu": "none", "gelu_tanh": "tanh"}
    for name, form in forms.items():
        yield Line(
            f"bias_activation {name} backward",
            lambda name=name: calls.bias_activation_backward_(x, bias, name, gradient),  # type: ignore[misc]
            lambda form=form: torch.ops.aten.gelu_backward(gradient, x, approximate=form).sum(0),  # type: ignore[misc]
        )
    scale = torch.rand(len(x)) + 0.5
    yield Line(
        "bias_activation_quantized gelu",
        lambda: calls.bias_activation_quantized(x, scale, bias, "gelu"),
        lambda: quantized(F.gelu(x * scale[:, None] + bias)),
    )
    yield Line("quantize_rows", lambda: calls.quantize_rows(x), lambda: quantized(x))


def quantized(x: Tensor) -> tuple[Tensor, Tensor]:
    """As `calls.quantize_rows`, in PyTorch's operations."""
    scale = x.float().abs().amax(1) / 127
    return (x / scale[:, None]).round().add_(128).to(torch.uint8), scale


def norm_lines(sizes: Sizes, dtype: torch.dtype) -> Iterator[Line]:
    """Bias, dropout, residual, LayerNorm."""
    rows, width = sum(LENGTHS), sizes.hidden
    x, residual, gradient = (torch.randn(rows, width).to(dtype) for _ in range(3))
    bias, weight, shift = (torch.randn(width) for _ in range(3))
    half, norm = bias.to(dtype), (weight, shift, 1e-12)
    for p in (0.0, P):
        suffix = f" p={p}" if p else ""
        mask = calls.Mask(p, 12345)

        def theirs(p: float = p) -> Tensor:
            dropped = F.dropout(x + half, p) if p else x + half
            return F.layer_norm(residual + dropped, (width,), weight.to(dtype), shift.to(dtype), 1e-12)

        yield Line(
            f"add_norm{suffix}",
            lambda mask=mask: calls.add_norm(x, bias, residual, norm, mask, keep=mask.p > 0),  # type: ignore[misc]
            theirs,
        )
    _, kept = calls.add_norm(x, bias, residual, norm, MASK, keep=True)
    assert kept is not None
    statistics_of = kept
    dropped = torch.rand(rows, width) > P

    def backward() -> object:
        mean, rstd = statistics_of.mean[:, None], statistics_of.rstd[:, None]
        if dtype != torch.float32:
            mean, rstd = mean.to(dtype), rstd.to(dtype)
        dz, dweight, dshift = torch.ops.aten.native_layer_norm_backward(
            gradient, statistics_of.z, (width,), mean, rstd, weight.to(dtype), shift.to(dtype), [True, True, True]
        )
        dx = torch.ops.aten.native_dropout_backward(dz, dropped, 1 / (1 - P))
        return dz, dx, dx.sum(0), dweight, dshift

    yield Line(f"add_norm backward p={P}", lambda: calls.add_norm_backward(gradient, kept, weight, MASK), backward)


def attention_lines(sizes: Sizes, dtype: torch.dtype) -> Iterator[Line]:
    """Attention of the batch as it is, sequences of several lengths."""
    layout, heads = Layout.packed(LENGTHS), sizes.heads
    qkv, gradient = (torch.randn(layout.total, parts * sizes.hidden).to(dtype) for parts in (3, 1))
    bias = torch.randn(3 * sizes.hidden) * 0.1
    visible = layout.mask()[:, None, None, :]

    def theirs(x: Tensor, p: float) -> Tensor:
        padded = layout.to_padded((x + bias.to(dtype)).view(layout.total, 3, heads, -1))
        q, k, v = padded.permute(2, 0, 3, 1, 4)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, dropout_p=p).transpose(1, 2)
        return layout.from_padded(context).reshape(layout.total, sizes.hidden)

    for p in (0.0, P):
        mask, suffix = calls.Mask(p, 12345), f" p={p}" if p else ""
        leaf = qkv.clone().requires_grad_()
        result = theirs(leaf, p)
        out, denominators = calls.attention(qkv, bias, layout, heads, mask, keep=True)
        assert denominators is not None
        forward = (qkv, bias, out, denominators)
        yield Line(
            f"attention{suffix}",
            lambda mask=mask: calls.attention(qkv, bias, layout, heads, mask, keep=mask.p > 0),  # type: ignore[misc]
            lambda p=p: theirs(qkv, p),  # type: ignore[misc]
        )
        yield Line(
            f"attention backward{suffix}",
            lambda mask=mask, forward=forward: calls.attention_backward(gradient, forward, layout, heads, mask),  # type: ignore[misc]
            lambda leaf=leaf, result=result: torch.autograd.grad(result, leaf, gradient, retain_graph=True),  # type: ignore[misc]
        )


def other_lines(sizes: Sizes, dtype: torch.dtype) -> Iterator[Line]:
    """Dropout alone, sums, the optimizer."""
    x = torch.randn(sum(LENGTHS), sizes.hidden).to(dtype)
    wide = torch.randn(sum(LENGTHS), 3 * sizes.hidden).to(dtype)
    yield Line("dropout", lambda: calls.dropout(x, P, 12345), lambda: F.dropout(x, P))
    # Where PyTorch serves, both sides are the same.
    yield Line("column_sums", lambda: calls.column_sums(wide), lambda: wide.sum(0, dtype=torch.float32))
    weight, m, v = (torch.rand(sizes.inner, sizes.hidden) for _ in range(3))
    gradient = torch.randn(weight.shape).to(dtype)
    working = weight if dtype == torch.float32 else weight.to(dtype)
    yield Line(
        "sum_of_squares",
        lambda: calls.sum_of_squares(gradient),
        lambda: float(torch.linalg.vector_norm(gradient, dtype=torch.float32)),
    )
    yield Line(
        "adamw",
        lambda: calls.adamw(weight, m, v, gradient, working, NUMBERS),
        lambda: fused_adamw(weight, m, v, gradient, working),
    )
    if dtype != torch.float32:
        return
    table, m_table, v_table, dense = (torch.rand(30522, sizes.hidden) for _ in range(4))
    places = torch.full((30522,), -1, dtype=torch.int32)
    places[torch.randperm(30522)[:800]] = torch.arange(800, dtype=torch.int32)
    seen = (torch.rand(30522) < 0.2).to(torch.uint8)
    some = torch.randn(800, sizes.hidden)
    yield Line(
        "adamw_rows",
        lambda: calls.adamw_rows(table, m_table, v_table, some, (places, seen), NUMBERS),
        lambda: fused_adamw(table, m_table, v_table, dense, table),
    )


def fused_adamw(weight: Tensor, m: Tensor, v: Tensor, gradient: Tensor, working: Tensor) -> None:
    """PyTorch's own update in one pass."""
    n = NUMBERS
    torch._fused_adamw_(
        [weight],
        [gradient.float()],
        [m],
        [v],
        [],
        [torch.tensor(10.0)],
        lr=n.learning_rate,
        beta1=n.beta1,
        beta2=n.beta2,
        weight_decay=n.decay,
        eps=n.eps,
        amsgrad=False,
        maximize=False,
    )
    if working is not weight:
        working.copy_(weight)


def median_ms(line: Line, seconds: float) -> tuple[float, float]:
    """Medians of both sides, which run in turn for so long each."""
    times: tuple[list[float], list[float]] = ([], [])
    for work in (line.ours, line.theirs):
        work()
    end = time.perf_counter() + 2 * seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for work, kept in zip((line.ours, line.theirs), times, strict=True):
            start = time.perf_counter()
            work()
            kept.append(1000 * (time.perf_counter() - start))
    ours, theirs = map(statistics.median, times)
    return ours, theirs


def measure(sizes: Sizes, seconds: float) -> list[dict[str, Any]]:
    """All kernels at the level that this process works at."""
    torch.manual_seed(1)
    native = "avx512_bf16" in processor.features()
    results = []
    for dtype in (torch.float32, torch.bfloat16) if native else (torch.float32,):
        for lines in (activation_lines, norm_lines, attention_lines, other_lines):
            for line in lines(sizes, dtype):
                ours, theirs = median_ms(line, seconds)
                facts = {"level": processor.level(), "dtype": str(dtype).removeprefix("torch."), "kernel": line.name}
                results.append({**facts, "ours_ms": ours, "pytorch_ms": theirs})
    return results


def show(results: list[dict[str, Any]]) -> Table:
    """A row for each kernel, columns for each level and type: milliseconds, PyTorch's, how many times faster."""
    columns = list(dict.fromkeys((result["level"], result["dtype"]) for result in results))
    title = f"milliseconds / PyTorch's = times faster; {describe(machine())}"
    table = Table("kernel", *(f"{level}\n{dtype}" for level, dtype in columns), title=title)
    for kernel in dict.fromkeys(result["kernel"] for result in results):
        cells = []
        for column in columns:
            found = [r for r in results if (r["level"], r["dtype"]) == column and r["kernel"] == kernel]
            times = [(result["ours_ms"], result["pytorch_ms"]) for result in found]
            cells.append("".join(f"{ours:.2f} / {theirs:.2f} = {theirs / ours:.1f}x" for ours, theirs in times))
        table.add_row(kernel, *cells)
    return table


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", default=",".join(processor.supported_levels()))
    parser.add_argument("--encoder", choices=SIZES, default="minilm")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each side of a line")
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of the table")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(SIZES[options.encoder], options.seconds)))
        return
    results: list[dict[str, Any]] = []
    for level in options.levels.split(","):
        command = [sys.executable, "-m", "benchmarks.kernels", "--here", "--encoder", options.encoder]
        done = subprocess.run(
            [*command, "--seconds", str(options.seconds)],
            cwd=ROOT,
            env=os.environ | processor.held_to(level),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        results += json.loads(done.stdout)
    if options.json:
        for result in results:
            print(json.dumps(result))
    else:
        Console(width=max(80, 40 + 30 * len({(r["level"], r["dtype"]) for r in results}))).print(show(results))
    save_result("kernels", {"encoder": options.encoder, "results": results})


if __name__ == "__main__":
    main()
