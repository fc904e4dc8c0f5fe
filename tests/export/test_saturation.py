"""Products in 8 bits give the same sums on processors without 8-bit dot products, which add pairs in 16 bits.

Where qemu-x86_64 is installed, ONNX Runtime is run on an emulated Haswell (AVX2, no VNNI).
"""

import json
import os
import shutil
import site
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from bertune.export import quantized
from bertune.export.graph import Graph
from bertune.export.quantized import MOST, Int8Products, quantized_weight

EMULATOR = shutil.which("qemu-x86_64")
WIDTH, OUTPUTS = 64, 8
FloatArray = npt.NDArray[np.float32]


def product(weight: FloatArray) -> bytes:
    """A graph of one 8-bit product, of the vectors of `rows` that input ids name."""
    graph = Graph()
    ids = graph.input("input_ids", ("tokens",))
    x = graph.op("Gather", graph.weight("rows", rows()), ids, axis=0)
    graph.output("y", Int8Products().linear(graph, x, "product", weight, None), ("tokens", OUTPUTS))
    found: bytes = graph.model("test", "0").SerializeToString()
    return found


def rows() -> FloatArray:
    """All largest, all smallest, both in turn, one long entry among short ones, all zero, and random rows."""
    rng = np.random.default_rng(0)
    extreme = np.ones((5, WIDTH), np.float32)
    extreme[1] *= -3
    extreme[2, ::2] = -1
    extreme[3] = 1e-3
    extreme[3, 7] = 500
    extreme[4] = 0
    return np.concatenate([extreme, rng.normal(size=(11, WIDTH)).astype(np.float32)])


def extreme_weight() -> FloatArray:
    """Outputs whose weights are all at the largest value, of one sign or of both in turn. Shape: (8, 64)."""
    weight = np.ones((OUTPUTS, WIDTH), np.float32)
    weight[1] *= -1
    weight[2, ::2] *= -1
    weight[3:] = np.random.default_rng(1).choice([-1, 1], (OUTPUTS - 3, WIDTH))
    return weight


def by_definition(weight: FloatArray) -> FloatArray:
    """The same in whole numbers of 64 bits."""
    x = rows().astype(np.float64)
    steps = np.maximum(np.abs(x).max(1, keepdims=True), 1e-20) / 127
    numbers, scale = quantized_weight(weight, MOST)
    total = np.round(x / steps).astype(np.int64) @ numbers.T.astype(np.int64)
    found: FloatArray = (total * steps * scale).astype(np.float32)
    return found


def run(model: bytes) -> FloatArray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    found: FloatArray = session.run(None, {"input_ids": np.arange(len(rows()))})[0]
    return found


def test_two_products_of_the_largest_bytes_fit_in_16_bits() -> None:
    largest_sum = 2 * 255 * MOST
    assert largest_sum <= np.iinfo(np.int16).max
    weight = np.random.default_rng(2).standard_cauchy((50, 40)).astype(np.float32)
    numbers, _ = quantized_weight(np.concatenate([weight, extreme_weight()[:, :40]]), MOST)
    assert np.abs(numbers.astype(int)).max() == MOST


def test_sums_of_extreme_values_are_those_of_whole_numbers() -> None:
    for weight in (extreme_weight(), np.random.default_rng(3).normal(size=(OUTPUTS, WIDTH)).astype(np.float32)):
        expected = by_definition(weight)
        np.testing.assert_allclose(run(product(weight)), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


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
    """With 8-bit weights the same emulator gives other sums: this test would see saturation."""
    weight = extreme_weight()
    (tmp_path / "7.onnx").write_bytes(product(weight))
    monkeypatch.setattr(quantized, "MOST", 127)
    (tmp_path / "8.onnx").write_bytes(product(weight))
    here = run((tmp_path / "8.onnx").read_bytes())
    seven, eight = (np.array(json.loads(line)) for line in emulated(EMULATED, tmp_path / "7.onnx", tmp_path / "8.onnx"))
    monkeypatch.undo()
    np.testing.assert_array_equal(seven.astype(np.float32), run(product(weight)))
    assert np.abs(eight - here).max() > 0.1 * np.abs(here).max()
