"""Memory: what an update is expected to take, and what `--batch-size auto` makes of it."""

import logging
from pathlib import Path

import pytest
import torch

from bertune.training import launch
from bertune.training.loop import memory
from bertune.training.loop.loop import fit
from bertune.training.loop.memory import activation_bytes, is_out_of_memory, micro_batches_that_fit
from bertune.training.loop.state import TrainConfig, TrainingSetup, TrainState
from bertune.training.options import TrainOptions
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
        return micro_batches_that_fit(encoder, torch.device("cpu"), 32, 40)

    assert [parts((weights + n * one) / 0.8 + 9) for n in (100, 32, 16, 8, 1, 0)] == [1, 1, 2, 4, 32, 32]
    assert parts(None) == 1
    with caplog.at_level(logging.INFO):
        parts(weights / 0.8)
    assert "32 a step" in caplog.text
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

    def recorded(parts: TrainingSetup, plan: TrainConfig, progress: TrainState) -> TrainState:
        seen.append((plan.batch_size, plan.steps, progress.micro_batches))
        return fit(parts, plan, progress)

    monkeypatch.setattr(launch, "fit", recorded)
    monkeypatch.setattr(launch, "micro_batches_that_fit", lambda *arguments: 4)
    tiny.train(capsys, tmp_path, tiny.opinions(40), "--batch-size", "auto", "--epochs", "1")
    assert seen == [(32, 2, 4)]
    assert "batch_size: auto" in (tmp_path / "model" / "run.yaml").read_text()


def test_other_words_are_no_batch_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tiny.bertune(capsys, "train", "--batch-size", "many").err
    assert "--batch-size" in told
    assert "number (or auto)" in told
    options = TrainOptions(task="t", encoder="e", train="t", output="o", batch_size=0)
    assert options.problems() == ["--batch-size 0: must be at least 1"]


def machine(folder: Path, available: int | None, group: str = "/") -> tuple[Path, Path]:
    """What a kernel would tell: of kB that are available, and of the process's control group."""
    proc, groups = folder / "proc", folder / "groups"
    (proc / "self").mkdir(parents=True)
    told = "MemTotal: 99000 kB\nMemFree: 1 kB\n" + ("" if available is None else f"MemAvailable: {available} kB\n")
    (proc / "meminfo").write_text(told)
    (proc / "self" / "cgroup").write_text(f"4:memory:/old\n0::{group}\n")
    groups.mkdir()
    return proc, groups


def limit(group: Path, most: str, used: int, cached: int) -> None:
    group.mkdir(parents=True, exist_ok=True)
    for name, text in (("max", most), ("current", used), ("stat", f"anon 7\ninactive_file {cached}\nslab 9")):
        (group / f"memory.{name}").write_text(f"{text}\n")


def test_pages_that_cache_files_are_free(tmp_path: Path) -> None:
    assert memory.host_memory(*machine(tmp_path, 5000)) == 5000 * 1024


def test_a_containers_limit_caps_the_machines_memory(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 5000)
    limit(groups, "3000000", 1_200_000, 200_000)
    assert memory.host_memory(proc, groups) == 2_000_000
    limit(groups, "max", 1_200_000, 200_000)
    assert memory.host_memory(proc, groups) == 5000 * 1024
    limit(groups, "99000000", 0, 0)
    assert memory.host_memory(proc, groups) == 5000 * 1024
    limit(groups, "1000", 5000, 0)
    assert memory.host_memory(proc, groups) == 0


def limit_of_version_1(group: Path, most: int, used: int, cached: int) -> None:
    group.mkdir(parents=True, exist_ok=True)
    stat = f"inactive_file 3\ntotal_cache 1\ntotal_inactive_file {cached}"
    for name, text in (("limit_in_bytes", most), ("usage_in_bytes", used)):
        (group / f"memory.{name}").write_text(f"{text}\n")
    (group / "memory.stat").write_text(f"{stat}\n")


def test_limits_of_the_first_version_of_control_groups(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 5000)
    (proc / "self" / "cgroup").write_text("11:cpu,cpuacct:/jobs\n4:hugetlb,memory:/jobs/one\n1:name=systemd:/a:b\n")
    limit_of_version_1(groups / "memory", 9223372036854771712, 10**12, 0)  # none
    limit_of_version_1(groups / "memory" / "other", 10, 0, 0)
    assert memory.host_memory(proc, groups) == 5000 * 1024
    limit_of_version_1(groups / "memory" / "jobs", 3_000_000, 1_200_000, 200_000)
    assert memory.host_memory(proc, groups) == 2_000_000
    limit_of_version_1(groups / "memory" / "jobs" / "one", 1_500_000, 500_000, 0)
    assert memory.host_memory(proc, groups) == 1_000_000


def test_a_container_of_the_first_version_sees_its_own_group_at_the_top(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 5000)
    (proc / "self" / "cgroup").write_text("4:memory:/docker/0123456789abcdef\n0::/docker/0123456789abcdef\n")
    limit_of_version_1(groups / "memory", 3_000_000, 1_200_000, 200_000)
    assert memory.host_memory(proc, groups) == 2_000_000


def test_the_narrowest_of_the_groups_above_counts(tmp_path: Path) -> None:
    proc, groups = machine(tmp_path, 5000, "/jobs/one")
    limit(groups / "jobs" / "one", "max", 100, 0)
    limit(groups / "jobs", "2000000", 500_000, 0)
    limit(groups / "other", "10", 0, 0)
    assert memory.host_memory(proc, groups) == 1_500_000


def test_without_the_kernels_word_sysconf_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, groups = machine(tmp_path, None)
    monkeypatch.setattr("os.sysconf", lambda name: {"SC_AVPHYS_PAGES": 300, "SC_PAGE_SIZE": 4096}[name])
    assert memory.host_memory(proc, groups) == 300 * 4096
