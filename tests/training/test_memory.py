"""Memory: what an update is expected to take, and what `--batch-size auto` makes of it."""

import logging
from pathlib import Path

import pytest
import torch

from bertune.training import memory, train
from bertune.training.loop import fit
from bertune.training.memory import activation_bytes, is_out_of_memory, parts_that_fit
from bertune.training.options import TrainOptions
from bertune.training.parts import Parts, Plan, Progress
from tests import tiny
from tests.training import small_run


def kept_bytes(length: int, *, checkpointing: bool = False) -> int:
    """Bytes that autograd really keeps of one sequence, beyond the weights."""
    net = small_run.network()
    net.train()
    net.encoder.activation_checkpointing = checkpointing
    data = small_run.features(1, longest=length, shortest=length)
    own = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = small_run.parts(net, data).make_batch(torch.arange(1).numpy(), 0)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(batch)
    return sum(kept.values())


@pytest.mark.parametrize("length", [16, 60])
@pytest.mark.parametrize("kernels", [True, False])
def test_the_estimate_is_on_the_safe_side(length: int, kernels: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertune.encoder.kernels import build

    if not kernels:
        monkeypatch.setenv("BERTUNE_KERNELS", "off")
    build.library.cache_clear()
    estimate = activation_bytes(small_run.network().encoder.config, length, 4)
    real = kept_bytes(length)
    monkeypatch.undo()
    build.library.cache_clear()
    assert real <= 1.1 * estimate
    assert estimate <= 6 * real


def test_parts_follow_the_free_memory(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    encoder = small_run.network().encoder
    weights = sum(4 * weight.numel() for weight in encoder.parameters())
    one = activation_bytes(encoder.config, 40, 4)

    def parts(free: float | None) -> int:
        monkeypatch.setattr(memory, "free_memory", lambda device: free)
        return parts_that_fit(encoder, torch.device("cpu"), 32, 40)

    assert [parts((weights + n * one) / 0.8 + 9) for n in (100, 32, 16, 8, 1, 0)] == [1, 1, 2, 4, 32, 32]
    assert parts(None) == 1
    with caplog.at_level(logging.INFO):
        parts(weights / 0.8)
    assert "32 an update" in caplog.text
    assert "in 32 parts" in caplog.text
    encoder.activation_checkpointing = True
    assert parts((weights + 8 * one) / 0.8) < 4


def test_this_machine_has_memory() -> None:
    free = memory.free_memory(torch.device("cpu"))
    assert free is not None
    assert free > 2**20


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_running_out_looks_like(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_batch_size_auto_is_the_tasks_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int, int]] = []

    def watched(parts: Parts, plan: Plan, progress: Progress) -> Progress:
        seen.append((plan.batch_size, plan.steps, progress.pieces))
        return fit(parts, plan, progress)

    monkeypatch.setattr(train, "fit", watched)
    monkeypatch.setattr(train, "parts_that_fit", lambda *arguments: 4)
    tiny.train(capsys, tmp_path, tiny.opinions(40), "--batch-size", "auto", "--epochs", "1")
    assert seen == [(32, 2, 4)]
    assert "batch_size: auto" in (tmp_path / "model" / "run.yaml").read_text()


def test_other_words_are_no_batch_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tiny.bertune(capsys, "train", "--batch-size", "many").err
    assert "--batch-size" in told
    assert "number (or auto)" in told
    options = TrainOptions(task="t", encoder="e", train="t", output="o", batch_size=0)
    assert options.problems() == ["--batch-size 0: must be at least 1"]
