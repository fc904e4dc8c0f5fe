"""The machine of a measurement: its facts, its rate of matrix products, and how to hold a process to an older one.

Every result is saved through `save_result`, so that none lacks the processor, the instruction set that was used, the
number of threads and the versions.
"""

import contextlib
import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bertune import processor

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("transformers", "onnxruntime", "openvino", "nncf")
ZEN = [(23, 0x00, 0x2F, "Zen"), (23, 0x30, 0xFF, "Zen 2"), (25, 0x10, 0x1F, "Zen 4"), (25, 0x60, 0x7F, "Zen 4")]
ZEN += [(25, 0xA0, 0xAF, "Zen 4"), (25, 0x00, 0xFF, "Zen 3"), (26, 0x00, 0xFF, "Zen 5")]
"""AMD's family, first and last model, and the name of the core; the first row that fits. Virtual machines often report
`AMD EPYC` and no more."""

ISAS = {"avx2": "x86-64-v3", "avx512": "x86-64-v4"}
"""Short names of instruction-set levels for --isa."""


def environment(isa: str | None) -> dict[str, str]:
    """Variables that hold a new process's PyTorch, oneDNN, MKL and bertune to an instruction set; none for None.

    Whether OpenVINO's copy of oneDNN and ONNX Runtime's own kernels obey any of them was not checked.
    """
    return {} if isa is None else processor.held_to(ISAS.get(isa, isa))


def cpu_name() -> str:
    """The processor's name, with AMD's name of the core where the model number gives it."""
    name = processor.model_name()
    fields = {}
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    if fields.get("vendor_id") != "AuthenticAMD":
        return name
    core = amd_core(int(fields["cpu family"]), int(fields["model"]))
    return f"{name} ({core})" if core else name


def amd_core(family: int, model: int) -> str | None:
    """AMD's name of the core; None where it is not known here."""
    return next((core for at, low, high, core in ZEN if at == family and low <= model <= high), None)


def machine() -> dict[str, Any]:
    """Processor, instruction set, threads and versions, as seen by this process."""
    found: dict[str, Any] = {
        "cpu": cpu_name(),
        "instruction_set": processor.level(),
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def describe(facts: dict[str, Any]) -> str:
    """One line on a machine, for titles of tables."""
    where = facts.get("gpu") or f"{facts['cpu']}, {facts['instruction_set']}"
    return f"{where}, {facts['threads']} threads, torch {facts['torch']}"


def save_result(name: str, result: Mapping[str, Any]) -> None:
    """Print the result as a JSON line and append it to the file of the day under benchmarks/results.

    The machine's facts are added unless the result has them already, from the process that was measured.
    """
    facts = result.get("machine") or machine()
    line = json.dumps({"benchmark": name, **result, "machine": facts})
    print(line)
    folder = ROOT / "benchmarks" / "results"
    folder.mkdir(exist_ok=True)
    kind = "gpu" if "gpu" in facts else "cpu"
    with (folder / f"{datetime.date.today()}-{kind}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")


# The rate of matrix products ------------------------------------------------------------------------------------------

TOKENS = (1696, 4096)
"""Rows of the products: those of a training batch of 32 pairs of MRPC, and of a batch in prediction."""
INPUTS, OUTPUTS = 768, 3072
Product = Callable[[], object]


def matrix_rate(precision: str, device: torch.device) -> dict[str, Any]:
    """The most operations a second (two per multiply-add) that products of this precision reach, and by which route.

    Args:
        precision: fp32, bf16 or int8.
        device: where they are computed.

    Returns: `gflops`, the best route's; `route`, its name; `routes`, the GFLOP/s of all. A route is measured at the
    shapes of `TOKENS`, of which the better counts. Only routes that keep the full precision take part.
    """
    rates: dict[str, float] = {}
    for tokens in TOKENS:
        operations = 2 * tokens * INPUTS * OUTPUTS
        for name, product in _routes(precision, device, tokens):
            rate = operations / _seconds(product, device) / 1e9
            rates[name] = max(rate, rates.get(name, 0.0))
    best = max(rates, key=lambda name: rates[name])
    return {"gflops": rates[best], "route": best, "routes": rates}


def _seconds(product: Product, device: torch.device) -> float:
    """Median time of a product over a third of a second, and at least three times, after one that warms up."""
    times: list[float] = []
    product()
    while len(times) < 3 or sum(times) < 0.3:
        start = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _routes(precision: str, device: torch.device, tokens: int) -> Iterator[tuple[str, Product]]:
    """Names of the ways to multiply, and one product by each."""
    if precision == "int8":
        yield "oneDNN int8, weights laid out", _int8_product(tokens)
        return
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    x = torch.randn(tokens, INPUTS, device=device).to(dtype)
    weight = torch.randn(OUTPUTS, INPUTS, device=device).to(dtype)
    if device.type == "cuda":
        yield "CUDA", lambda: torch.mm(x, weight.t())
        return
    yield ("PyTorch's default", lambda: torch.mm(x, weight.t()))
    if precision == "fp32" and not any(name.startswith("amx") for name in processor.features()):
        # With AMX this setting would permit products of bfloat16.
        yield "oneDNN", lambda: _with_medium_precision(x, weight)
    if hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        with contextlib.suppress(RuntimeError):  # a type that oneDNN does not multiply on this processor
            packed = torch.ops.mkldnn._reorder_linear_weight(weight)
            yield (
                "oneDNN, weights laid out",
                lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""),
            )


def _with_medium_precision(x: Tensor, weight: Tensor) -> Tensor:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        return torch.mm(x, weight.t())
    finally:
        torch.set_float32_matmul_precision(before)


def _int8_product(tokens: int) -> Product:
    x = torch.randint(0, 255, (tokens, INPUTS), dtype=torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(torch.randint(-127, 127, (OUTPUTS, INPUTS), dtype=torch.int8), None)
    scale, zero = torch.ones(OUTPUTS), torch.zeros(OUTPUTS, dtype=torch.int64)
    return lambda: torch.ops.onednn.qlinear_pointwise(
        x, 1.0, 128, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], ""
    )


def in_bfloat16() -> bool:
    """Whether a peer computes in bfloat16 here: where the device has no such products it would be many times slower."""
    from bertune.hardware import choose_device, choose_dtype

    return choose_dtype("auto", choose_device("auto")) == torch.bfloat16
