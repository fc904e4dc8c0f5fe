"""The attention kernel alone, on one thread: its time and its errors in bfloat16, by length and head size.

python -m benchmarks.attention [--lengths 16,32,53,128,384,512] [--heads 32,64] [--repetitions 20]

Least milliseconds, forward and backward, of 12 heads on about 4,096 tokens with dropout 0.1; root mean square errors
relative to float64, without dropout, of the result and of the gradients of queries, keys and values. Beside it the
route with products of float32 on the same bfloat16 tensors: the same sources compiled without AVX512_BF16.
"""

import argparse
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import save_result
from bertune.encoder.kernels import build, calls
from bertune.encoder.layout import Layout

HEADS = 12
TOKENS = 4096
MASK = calls.Mask(0.1, 12345)
PARTS = ("result", "queries", "keys", "values")


@contextlib.contextmanager
def route(name: str) -> Iterator[None]:
    """Kernels with products of pairs of bfloat16, which AVX512_BF16 has, or without."""
    with mock.patch.dict(os.environ, BERTUNE_ISA="x86-64-v4-bf16" if name == "pairs" else "x86-64-v4"):
        build.library.cache_clear()
        try:
            yield
        finally:
            build.library.cache_clear()


def least(work: Callable[[], object], repetitions: int) -> float:
    """Milliseconds of the fastest repetition."""
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1000 * min(times[1:])


def inputs(total: int, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values; their bias; a gradient of the result."""
    generator = torch.Generator().manual_seed(1)
    qkv, gradient = (torch.randn(total, parts * HEADS * size, generator=generator).bfloat16() for parts in (3, 1))
    return qkv, torch.randn(3 * HEADS * size, generator=generator) * 0.3, gradient


def in_float64(qkv: Tensor, bias: Tensor, gradient: Tensor) -> list[Tensor]:
    """Of a single sequence the result and the gradients of queries, keys and values. Shape: (T, H) each."""
    x = (qkv.double() + bias.double()).requires_grad_()
    parts = x.view(len(x), 3, HEADS, -1).permute(1, 2, 0, 3)
    scores = parts[0] @ parts[1].transpose(1, 2) / math.sqrt(parts.shape[-1])
    out = (scores.softmax(-1) @ parts[2]).transpose(0, 1).reshape(len(x), -1)
    out.backward(gradient.double())  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return [out.detach(), *x.grad.chunk(3, 1)]


def measure(length: int, size: int, repetitions: int) -> dict[str, Any]:
    """Times and errors of the kernels as they are loaded now."""
    layout = Layout.packed(max(1, TOKENS // length) * [length])
    qkv, bias, gradient = inputs(layout.total, size)
    out, logs = calls.attention(qkv, bias, layout, HEADS, MASK, keep=True)
    assert logs is not None
    kept = qkv, bias, out, logs
    forward = least(lambda: calls.attention(qkv, bias, layout, HEADS, MASK, keep=True), repetitions)
    backward = least(lambda: calls.attention_backward(gradient, kept, layout, HEADS, MASK), repetitions)

    one = Layout.packed([length])
    qkv, gradient = qkv[:length].clone(), gradient[:length].clone()
    out, logs = calls.attention(qkv, bias, one, HEADS, keep=True)
    assert logs is not None
    way_back = calls.attention_backward(gradient, (qkv, bias, out, logs), one, HEADS, calls.NO_MASK)
    errors = {
        name: float((found.double() - right).norm() / right.norm())
        for name, found, right in zip(PARTS, [out, *way_back.chunk(3, 1)], in_float64(qkv, bias, gradient), strict=True)
    }
    return {"forward_ms": forward, "backward_ms": backward, "errors": errors}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", default="16,32,53,128,384,512")
    parser.add_argument("--heads", default="32,64")
    parser.add_argument("--repetitions", type=int, default=20)
    said = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("head", "tokens", "route", "forward", "backward", *PARTS, title="milliseconds; errors in percent")
    results: list[dict[str, Any]] = []
    for size in map(int, said.heads.split(",")):
        for length in map(int, said.lengths.split(",")):
            for name in ("pairs", "float32"):
                with route(name):
                    found = measure(length, size, said.repetitions)
                results.append({"head": size, "tokens": length, "route": name, **found})
                errors = [f"{100 * error:.2f}" for error in found["errors"].values()]
                times = [f"{found[which]:.2f}" for which in ("forward_ms", "backward_ms")]
                table.add_row(str(size), str(length), name, *times, *errors)
    Console().print(table)
    save_result("attention", {"results": results})


if __name__ == "__main__":
    main()
