"""Products whose rows do not depend on each other: few rows in float32, and tiles of bfloat16 where there is AMX."""

import pytest
import torch

from bertune.encoder.kernels import calls


@pytest.mark.skipif(not calls.available(torch.empty(0)), reason="needs the compiled kernels")
@pytest.mark.parametrize("rows", [1, 2, 4, 5, 33])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 16), (5, 20), (77, 384), (3, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_row_products(rows: int, outputs: int, inputs: int, bias: bool) -> None:
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs)
    shift = torch.randn(outputs) if bias else None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if shift is None else shift.double())
    found = calls.row_products(x, weight, shift)
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)
    for row in range(rows):
        assert torch.equal(calls.row_products(x[row : row + 1].clone(), weight, shift)[0], found[row])


def test_row_products_of_nothing() -> None:
    if not calls.available(torch.empty(0)):
        pytest.skip("needs the compiled kernels")
    assert calls.row_products(torch.empty(0, 8), torch.empty(3, 8), None).shape == (0, 3)
    assert calls.row_products(torch.empty(2, 8), torch.empty(0, 8), None).shape == (2, 0)


@pytest.mark.skipif(not calls.tiles_work(), reason="this processor, or the level it is held to, has no AMX")
@pytest.mark.parametrize("rows", [1, 2, 31, 32, 33, 100])
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 32), (48, 64), (272, 96), (768, 3072)])
@pytest.mark.parametrize("bias", [True, False])
def test_tile_products(rows: int, outputs: int, inputs: int, bias: bool) -> None:
    x, weight = torch.randn(rows, inputs).bfloat16(), torch.randn(outputs, inputs).bfloat16()
    shift = torch.randn(outputs) if bias else None
    tiles = calls.to_tiles(weight)
    assert tiles is not None
    expected = torch.nn.functional.linear(x.double(), weight.double(), None if shift is None else shift.double())
    found = calls.tile_products(x, tiles, shift)
    torch.testing.assert_close(found.double(), expected, atol=0.02, rtol=0.01)
    for row in (0, rows // 2, rows - 1):
        assert torch.equal(calls.tile_products(x[row : row + 1].clone(), tiles, shift)[0], found[row])


def test_what_tiles_cannot_take() -> None:
    assert calls.to_tiles(torch.zeros(16, 32)) is None
    assert calls.to_tiles(torch.zeros(16, 33, dtype=torch.bfloat16)) is None
    assert calls.to_tiles(torch.zeros(15, 32, dtype=torch.bfloat16)) is None
