"""The processor: its name, its features, and the instruction-set level that the kernels are compiled for.

The names of x86 levels are those of the x86-64 psABI (https://gitlab.com/x86-psABIs/x86-64-ABI), which GCC's and
Clang's `-march` take. BERTUNE_ISA holds bertune to a lower level than the processor has.
"""

import functools
import os
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from bertune.errors import InputError

_V3 = frozenset({"avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Other systems' names for what Linux calls x86_64 and aarch64."""


@dataclass(frozen=True)
class Level:
    """An instruction-set level.

    machine: the architecture in Linux's name; empty: any.
    needs: the features that a processor must have.
    excludes: prefixes of the features that lie above the level.
    flags: arguments for GCC and Clang.
    libraries: environment variables that hold PyTorch, oneDNN and MKL to it. They are read once, at import.
    """

    name: str
    machine: str
    needs: frozenset[str]
    excludes: tuple[str, ...]
    flags: tuple[str, ...]
    libraries: dict[str, str]


def _libraries(aten: str, onednn: str, mkl: str) -> dict[str, str]:
    return {"ATEN_CPU_CAPABILITY": aten, "ONEDNN_MAX_CPU_ISA": onednn, "MKL_ENABLE_INSTRUCTIONS": mkl}


LEVELS = {
    level.name: level
    for level in (
        Level("x86-64-v4-bf16", "x86_64", _V4 | {"avx512_bf16"}, (), ("-march=x86-64-v4", "-mavx512bf16"), {}),
        Level(
            "x86-64-v4",
            "x86_64",
            _V4,
            ("amx", "avx10", "avx512_bf16", "avx512_fp16"),
            ("-march=x86-64-v4",),
            _libraries("avx512", "AVX512_CORE_VNNI", "AVX512"),
        ),
        Level(
            "x86-64-v3",
            "x86_64",
            _V3,
            ("amx", "avx10", "avx512", "avx_"),
            ("-march=x86-64-v3",),
            _libraries("avx2", "AVX2", "AVX2"),
        ),
        Level("aarch64", "aarch64", frozenset({"asimd"}), ("bf16", "i8mm", "sme", "sve"), ("-march=armv8-a",), {}),
        Level(
            "generic",
            "",
            frozenset(),
            ("amx", "avx", "bf16", "bmi", "f16c", "fma", "i8mm", "sme", "sve"),
            (),
            _libraries("default", "SSE41", "SSE4_2"),
        ),
    )
}
"""By name, the richest first."""


def machine() -> str:
    """The architecture: x86_64, aarch64, …"""
    name = platform.machine().lower()
    return _MACHINES.get(name, name)


@functools.cache
def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty on systems other than Linux."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def usable_cores() -> int:
    """Logical processors that this process may run on; where the system does not say, all that there are."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def model_name() -> str:
    """The processor's name as the system gives it, such as `AMD EPYC 9V74`."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


@functools.cache
def _all_features() -> frozenset[str]:
    """The processor's features in Linux's names. Elsewhere those that PyTorch's choice of kernels implies."""
    info = _cpuinfo()
    listed = info.get("flags") or info.get("Features")
    if listed:
        return frozenset(listed.split())
    if machine() == "aarch64":
        return frozenset({"asimd"})
    return {"AVX512": _V4, "AVX2": _V3}.get(torch.backends.cpu.get_cpu_capability(), frozenset())


def supported_levels() -> list[str]:
    """Names of the levels whose instructions this processor has, the richest first."""
    fitting = [level for level in LEVELS.values() if level.machine in ("", machine())]
    return [level.name for level in fitting if level.needs <= _all_features()]


def level() -> str:
    """The level that bertune works at: BERTUNE_ISA's where it is set, else the richest that the processor has.

    Raises:
        InputError: BERTUNE_ISA names no level, or one that this processor lacks.
    """
    supported = supported_levels()
    name = os.environ.get("BERTUNE_ISA", "")
    if not name:
        return supported[0]
    if name not in LEVELS:
        raise InputError(f"BERTUNE_ISA={name}: known levels are {', '.join(LEVELS)}")
    if name not in supported:
        raise InputError(f"BERTUNE_ISA={name}: this processor has {', '.join(supported)}")
    return name


def features() -> frozenset[str]:
    """The processor's features in Linux's names, without those that lie above `level`."""
    excludes = LEVELS[level()].excludes
    return frozenset(name for name in _all_features() if not name.startswith(excludes)) if excludes else _all_features()


def held_to(name: str) -> dict[str, str]:
    """Environment variables that hold bertune, PyTorch, oneDNN and MKL to a level, for a new process."""
    return {"BERTUNE_ISA": name, **LEVELS[name].libraries}
