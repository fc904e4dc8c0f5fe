"""Levels are told apart by a processor's features, and BERTUNE_ISA holds bertune to a lower one."""

from collections.abc import Iterator

import pytest
import torch

from bertune import hardware, processor
from bertune.errors import InputError

V3 = "fpu sse2 movbe f16c avx fma avx2 bmi1 bmi2"
V4 = f"{V3} avx512f avx512dq avx512cd avx512bw avx512vl"
PROCESSORS = {
    "Opteron": ("x86_64", "fpu sse2 sse4a", "generic"),
    "EPYC 7742": ("x86_64", V3, "x86-64-v3"),
    "Core i5-1240P": ("x86_64", f"{V3} avx_vnni", "x86-64-v3"),
    "Xeon Gold 6248": ("x86_64", f"{V4} avx512_vnni", "x86-64-v4"),
    "EPYC 9554": ("x86_64", f"{V4} avx512_vnni avx512_bf16", "x86-64-v4-bf16"),
    "Graviton2": ("aarch64", "fp asimd asimddp", "aarch64"),
    "POWER9": ("ppc64le", "", "generic"),
}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("BERTUNE_ISA", raising=False)
    processor._all_features.cache_clear()
    yield
    monkeypatch.undo()
    processor._all_features.cache_clear()


def pretend(monkeypatch: pytest.MonkeyPatch, machine: str, cpuinfo: dict[str, str]) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(processor, "_cpuinfo", lambda: cpuinfo)


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_richest_level_that_a_processor_has(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine, flags, expected = PROCESSORS[name]
    pretend(monkeypatch, machine, {"model name": name, "Features" if machine == "aarch64" else "flags": flags})
    assert processor.level() == expected
    assert processor.supported_levels()[-1] == "generic"
    assert processor.model_name() == name


@pytest.mark.parametrize(
    ("machine", "capability", "expected"),
    [("AMD64", "AVX2", "x86-64-v3"), ("x86_64", "DEFAULT", "generic"), ("arm64", "DEFAULT", "aarch64")],
)
def test_without_cpuinfo_pytorch_knows(
    monkeypatch: pytest.MonkeyPatch, machine: str, capability: str, expected: str
) -> None:
    """As on Windows and macOS."""
    pretend(monkeypatch, machine, {})
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    assert processor.level() == expected


def test_held_to_a_lower_level(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "x86_64", {"flags": f"{V4} avx512_vnni avx512_bf16 avx_vnni amx_bf16"})
    cpu = torch.device("cpu")
    assert hardware.choose_dtype("auto", cpu) == torch.bfloat16
    left = {
        "x86-64-v4-bf16": {"avx512_vnni", "avx512_bf16", "avx_vnni", "amx_bf16"},
        "x86-64-v4": {"avx512_vnni", "avx_vnni"},
        "x86-64-v3": set(),
        "generic": set(),
    }
    for name, expected in left.items():
        monkeypatch.setenv("BERTUNE_ISA", name)
        assert processor.level() == name
        assert processor.features() - set(V4.split()) == expected
        assert "fma" not in processor.features() or name != "generic"
        native = name == "x86-64-v4-bf16"
        assert hardware.choose_dtype("auto", cpu) == (torch.bfloat16 if native else torch.float32)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("avx2", "BERTUNE_ISA=avx2: known levels are x86-64-v4-bf16, x86-64-v4, x86-64-v3, aarch64, generic"),
        ("x86-64-v4", "BERTUNE_ISA=x86-64-v4: this processor has x86-64-v3, generic"),
        ("aarch64", "BERTUNE_ISA=aarch64: this processor has x86-64-v3, generic"),
    ],
)
def test_a_level_that_is_not_there(monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    pretend(monkeypatch, "x86_64", {"flags": V3})
    monkeypatch.setenv("BERTUNE_ISA", name)
    with pytest.raises(InputError) as error:
        processor.level()
    assert message in str(error.value)
