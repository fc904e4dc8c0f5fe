"""By which library float32 matrix products run on the CPU in training.

`default`: PyTorch's choice, MKL on x86. `onednn`: oneDNN, by the setting that permits bfloat16 products; only where
oneDNN has no such kernel and multiplies in full float32 all the same. Both are exact to float32 rounding, but sum in
different orders. BERTUNE_FLOAT32 sets the route; else it is measured once per machine. Prediction takes oneDNN with
weights laid out once: about as fast as MKL, which sums otherwise where there are few rows, so that what a text is
answered would depend on its batch.
"""

import contextlib
import functools
import os
from collections.abc import Iterator

import torch
from torch.nn import functional as F

from bertune import processor
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError
from bertune.fastest import fastest

ROUTES = ("default", "onednn")
VARIABLE = "BERTUNE_FLOAT32"
_ROWS, _WIDTH = 256, 768
"""Of the products that are measured: a small batch of BERT-base."""

_active: list[str] = []
"""Routes of the blocks of `fast_float32` that are being executed; the outermost holds."""


@functools.cache
def onednn_is_exact() -> bool:
    """Whether float32 products keep full precision when PyTorch may pass them to oneDNN.

    On x86 CPUs with AVX-512 but without AMX, "medium" precision changes the route alone: oneDNN has no bfloat16 kernel
    for float32 operands there. That is checked on a product too.
    """
    features = processor.features()
    if "avx512bw" not in features or any(name.startswith("amx") for name in features):
        return False
    x, weight = _operands(rows=64, width=256)  # small: every process checks
    with torch.no_grad(), _precision("medium"):
        found = F.linear(x, weight)
    exact = F.linear(x.double(), weight.double())
    return float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())


def training_route(device: torch.device, recorded: str | None = None) -> str:
    """The route of products outside prediction.

    recorded: the route that an interrupted run began with; it is kept, so that the rest is computed as the beginning
        was, unless it is not exact here.

    Raises:
        InputError: BERTUNE_FLOAT32 names no route.
    """
    requested = _requested()
    if device.type != "cpu":
        return "default"
    exact = ("default", "onednn") if onednn_is_exact() else ("default",)
    for route in (recorded, requested):
        if route in ROUTES:
            return route if route in exact else "default"
    if len(exact) == 1:
        return exact[0]
    x, weight = _operands()

    def work(precision: str) -> None:
        with torch.no_grad(), _precision(precision):
            torch.mm(F.linear(x, weight).t(), x)  # forward, and the weight's gradient

    return fastest("float32 training", {"default": lambda: work("highest"), "onednn": lambda: work("medium")})


def pack_for_prediction(encoder: Encoder, device: torch.device) -> None:
    """Lay the encoder's matrices out for prediction on a CPU."""
    if device.type == "cpu":
        encoder.pack()


@contextlib.contextmanager
def fast_float32(device: torch.device, route: str | None = None) -> Iterator[None]:
    """Compute float32 products by the fastest exact route inside the block; blocks inside it follow the outermost.

    route: as `training_route` chose it; None: as it would now.
    """
    if _active or device.type != "cpu":
        yield
        return
    _active.append(training_route(device) if route is None else route)
    try:
        with _precision("medium") if _active[0] == "onednn" else contextlib.nullcontext():
            yield
    finally:
        _active.clear()


@contextlib.contextmanager
def _precision(name: str) -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _requested() -> str | None:
    """The route that BERTUNE_FLOAT32 names, if any."""
    name = os.environ.get(VARIABLE, "")
    if name and name not in ROUTES:
        raise InputError(f"{VARIABLE}={name}: known routes are {', '.join(ROUTES)}")
    return name or None


def _operands(rows: int = _ROWS, width: int = _WIDTH) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and a weight, drawn without touching the process's generator."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, width), (width, width))
    x, weight = (torch.empty(shape).normal_(generator=generator) for shape in shapes)
    return x, weight
