"""8-bit products are exact sums, at the extremes too, on processors with and without 8-bit dot products."""

import os
import subprocess
import sys

import pytest

from bertune import processor
from bertune.encoder import int8

PROGRAM = """
import torch
from bertune.encoder import int8
most = int8.largest_weight()
for rows, inputs, outputs in ((1, 48, 96), (64, 384, 1536), (300, 768, 768)):
    generator = torch.Generator().manual_seed(inputs)
    for extreme in (True, False):
        x = torch.randint(0, 256, (rows, inputs), generator=generator).to(torch.uint8)
        w = torch.randint(-most, most + 1, (outputs, inputs), generator=generator).to(torch.int8)
        if extreme:
            x.fill_(255)
            w[: outputs // 2], w[outputs // 2 :] = most, -most
        found = int8._packed(w, torch.ones(outputs))(x, torch.float32)
        exact = (x.double() - int8.ZERO) @ w.double().T
        assert torch.equal(found.double(), exact), (rows, inputs, outputs, extreme, (found - exact).abs().max())
print(most)
"""


def output_of(program: str, environment: dict[str, str]) -> str:
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, check=False, env=os.environ | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.skipif("x86-64-v3" not in processor.supported_levels(), reason="needs a processor with AVX2")
def test_no_sum_saturates_without_dot_products() -> None:
    """AVX2's `vpmaddubsw` saturates beyond 16 bits: weights are held to 7 bits where it may serve."""
    assert output_of(PROGRAM, processor.held_to("x86-64-v3")) == "63"


@pytest.mark.skipif(not int8.has_dot_products(), reason="needs a processor with VNNI")
def test_all_8_bits_with_dot_products() -> None:
    assert output_of(PROGRAM, {}) == "127"


@pytest.mark.skipif(not int8.has_dot_products(), reason="needs a processor with VNNI")
def test_libraries_held_to_less_than_the_processor_has() -> None:
    assert output_of(PROGRAM, {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}) in ("63", "127")
