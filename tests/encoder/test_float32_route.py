"""float32 products take an exact route: the recorded one, the one that BERTUNE_FLOAT32 names, or the fastest."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bertune import fastest, processor
from bertune.encoder import float32_route
from bertune.encoder.float32_route import fast_float32, onednn_is_exact, training_route
from bertune.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path))
    monkeypatch.delenv("BERTUNE_FLOAT32", raising=False)
    fastest.forget()
    onednn_is_exact.cache_clear()
    yield
    monkeypatch.undo()
    fastest.forget()
    onednn_is_exact.cache_clear()


def test_the_chosen_route_is_exact() -> None:
    x, weight = torch.randn(64, 256), torch.randn(512, 256)
    with fast_float32(CPU):
        found = torch.nn.functional.linear(x, weight)
    torch.testing.assert_close(found.double(), x.double() @ weight.double().T, atol=1e-3, rtol=1e-5)
    assert torch.get_float32_matmul_precision() == "highest"


def test_measuring_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    training_route(CPU)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("flags", ["avx2 fma", "avx2 avx512bw amx_bf16", "avx2 avx512bw amx_tile"])
def test_onednn_only_where_it_keeps_float32(monkeypatch: pytest.MonkeyPatch, flags: str) -> None:
    monkeypatch.setattr(processor, "features", lambda: frozenset(flags.split()))
    assert not onednn_is_exact()
    assert training_route(CPU) == training_route(CPU, recorded="onednn") == "default"
    monkeypatch.setenv("BERTUNE_FLOAT32", "onednn")
    assert training_route(CPU) == "default"


def test_an_interrupted_run_keeps_its_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32_route, "onednn_is_exact", lambda: True)
    for name in ("default", "onednn"):
        monkeypatch.setenv("BERTUNE_FLOAT32", {"default": "onednn", "onednn": "default"}[name])
        assert training_route(CPU, recorded=name) == name
    assert training_route(torch.device("meta"), recorded="onednn") == "default"


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32_route, "onednn_is_exact", lambda: True)
    for name in ("default", "onednn"):
        monkeypatch.setenv("BERTUNE_FLOAT32", name)
        assert training_route(CPU) == name
    monkeypatch.setenv("BERTUNE_FLOAT32", "mkl")
    with pytest.raises(InputError, match="BERTUNE_FLOAT32=mkl: known routes are default, onednn"):
        training_route(CPU)


def test_blocks_inside_follow_the_outermost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(float32_route, "onednn_is_exact", lambda: True)
    with fast_float32(CPU, "onednn"):
        with fast_float32(CPU, "default"):
            assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_float32_matmul_precision() == "medium"
    assert torch.get_float32_matmul_precision() == "highest"
