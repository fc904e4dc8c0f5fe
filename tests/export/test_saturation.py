"""Products in 8 bits give the same sums on processors without 8-bit dot products, which add pairs in 16 bits.

Where qemu-x86_64 is installed, ONNX Runtime is run on an emulated Haswell (AVX2, no VNNI).
"""

import json
import os
import shutil
import site
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from bertune.export import quantized
from bertune.export.graph import Graph
from bertune.export.layers import LEAST
from bertune.export.quantized import MOST, PAIR, Int8Products, paired_weight

EMULATOR = shutil.which("qemu-x86_64")
WIDTH, OUTPUTS = 64, 8
FloatArray = npt.NDArray[np.float32]


def product(weight: FloatArray, least: float | None = None) -> bytes:
    """A graph of one 8-bit product, of the vectors of `rows` that input ids name; least: they are cut off there."""
    graph = Graph()
    ids = graph.input("input_ids", ("tokens",))
    x = graph.op("Gather", graph.weight("rows", rows(least)), ids, axis=0)
    graph.output("y", Int8Products().linear(graph, x, "product", weight, None, least), ("tokens", OUTPUTS))
    found: bytes = graph.model("test", "0").SerializeToString()
    return found


def rows(least: float | None = None) -> FloatArray:
    """All largest, all smallest, both in turn, one long entry among short ones, all zero, and random rows."""
    rng = np.random.default_rng(0)
    extreme = np.ones((5, WIDTH), np.float32)
    extreme[1] *= -3
    extreme[2, ::2] = -1
    extreme[3] = 1e-3
    extreme[3, 7] = 500
    extreme[4] = 0
    found = np.concatenate([extreme, rng.normal(size=(11, WIDTH)).astype(np.float32)])
    return found if least is None else np.maximum(found, np.float32(least))


def extreme_weight() -> FloatArray:
    """Outputs whose weights are as large as they may be: all alike, of one sign or of both in turn, or one of two.

    Shape: (8, 64).
    """
    weight = np.ones((OUTPUTS, WIDTH), np.float32)
    weight[1] *= -1
    weight[2, ::2] *= -1
    weight[3] = np.tile([127, 1], WIDTH // 2)
    weight[4] = np.tile([-1, -127], WIDTH // 2)
    weight[5:] = np.random.default_rng(1).choice([-1, 1], (OUTPUTS - 5, WIDTH))
    return weight


def by_definition(weight: FloatArray, least: float | None = None) -> FloatArray:
    """The same in whole numbers of 64 bits."""
    x = rows(least).astype(np.float64)
    moved = 0.0 if least is None else -least
    reach = 127 if least is None else 255
    steps = np.maximum(np.abs(x + moved).max(1, keepdims=True), 1e-20) / reach
    numbers, scale = paired_weight(weight)
    whole = numbers.T.astype(np.int64)
    total = np.round((x + moved) / steps).astype(np.int64) @ whole * steps - moved * whole.sum(0)
    found: FloatArray = (total * scale).astype(np.float32)
    return found


def run(model: bytes) -> FloatArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: FloatArray = session.run(None, {"input_ids": np.arange(len(rows()))})[0]
    return found


@pytest.mark.parametrize("width", [40, 41])
def test_two_products_of_the_largest_bytes_fit_in_16_bits(width: int) -> None:
    largest_sum = 255 * PAIR
    assert largest_sum <= np.iinfo(np.int16).max
    weight = np.random.default_rng(2).standard_cauchy((2000, width)).astype(np.float32)
    numbers, steps = paired_weight(np.concatenate([weight, extreme_weight()[:, :width]]))
    sizes = np.abs(np.pad(numbers.astype(int), ((0, 0), (0, width % 2))))
    together = sizes[:, ::2] + sizes[:, 1::2]
    assert sizes.max() == MOST
    assert together.max() == PAIR
    # Nothing is cut off: a number is off by half a step, or by a whole one where two were rounded up together.
    assert np.abs(weight - numbers[:2000] * steps[:2000, None]).max() <= 1.0001 * steps.max()
    assert (np.abs(weight / steps[:2000, None] - numbers[:2000]) > 0.5001).mean() < 0.01


def test_weights_of_which_one_in_two_is_small_keep_8_bits() -> None:
    numbers, steps = paired_weight(np.array([[1.0, 0.005] * 8, [1.0, 1.0] * 8], np.float32))
    assert np.abs(numbers).max(1).tolist() == [127, 64]
    np.testing.assert_allclose(steps, [1 / 127, 1 / 64], rtol=1e-6)


@pytest.mark.parametrize("least", [None, 0.0, LEAST["gelu"]])
def test_sums_of_extreme_values_are_those_of_whole_numbers(least: float | None) -> None:
    for weight in (extreme_weight(), np.random.default_rng(3).normal(size=(OUTPUTS, WIDTH)).astype(np.float32)):
        expected = by_definition(weight, least)
        found = run(product(weight, least))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("activation", LEAST)
def test_no_activation_gives_less_than_its_bound(activation: str) -> None:
    """Within a hundredth of it some value lies, so that the bytes are used."""
    import torch

    x = torch.linspace(-30, 30, 2_000_001)
    gelu = partial(torch.nn.functional.gelu, approximate="tanh") if activation == "gelu_tanh" else None
    smallest = float((gelu or getattr(torch.nn.functional, activation))(x).min())
    assert LEAST[activation] <= smallest <= LEAST[activation] + 0.01


EMULATED = """
import json, sys
import numpy, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
for path in sys.argv[1:]:
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    print(json.dumps(session.run(None, {"input_ids": numpy.arange(16)})[0].tolist()))
"""


def emulated(program: str, *arguments: Path) -> list[str]:
    """Lines that a program prints on a processor with AVX2 and without VNNI."""
    assert EMULATOR is not None
    places = [path for path in (*site.getsitepackages(), os.environ.get("PYTHONPATH", "")) if path]
    command = [EMULATOR, "-cpu", "Haswell", os.path.realpath(sys.executable), "-c", program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.skipif(EMULATOR is None, reason="qemu-x86_64 is not installed (apt install qemu-user)")
def test_a_processor_without_vnni_computes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the bound on two neighbours the same emulator gives other sums: this test would see saturation."""
    weight = extreme_weight()
    names = [tmp_path / f"{name}.onnx" for name in ("bounded", "above", "free")]
    names[0].write_bytes(product(weight))
    names[1].write_bytes(product(weight, 0.0))
    monkeypatch.setattr(quantized, "PAIR", 254)
    names[2].write_bytes(product(weight, 0.0))
    found = [np.array(json.loads(line), np.float32) for line in emulated(EMULATED, *names)]
    here = [run(path.read_bytes()) for path in names]
    np.testing.assert_array_equal(found[0], here[0])
    np.testing.assert_array_equal(found[1], here[1])
    assert (np.abs(found[2] - here[2]) > 0.1 * np.abs(here[2])).any()
