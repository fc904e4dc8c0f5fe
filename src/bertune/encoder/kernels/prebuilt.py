"""Kernels that a wheel carries, compiled beforehand for several instruction-set levels: no compiler is needed.

`make wheel` puts them into the wheel (tools/wheel.py); a source checkout has none. They name no OpenMP library of their
own. PyTorch has loaded one by the time they are loaded (its wheels carry libgomp under varying names), and two in one
process would mean two pools of threads on the same cores.
"""

import ctypes
from pathlib import Path

import torch

FOLDER = Path(__file__).with_name("compiled")


def file_name(level: str, dtype: torch.dtype) -> str:
    """Name of the library of a level for tensors of `dtype`."""
    return f"{level}-{str(dtype).removeprefix('torch.')}.so"


def find(level: str, dtype: torch.dtype) -> Path | None:
    """The library of this level, or None where bertune was installed without it."""
    path = FOLDER / file_name(level, dtype)
    return path if path.is_file() else None


def load(path: Path) -> ctypes.CDLL:
    """Load a library that `find` returned. Raises OSError where it cannot be, such as without any OpenMP library."""
    _make_openmp_visible()
    return ctypes.CDLL(str(path))


def _make_openmp_visible() -> None:
    """See that libraries loaded from now on find OpenMP's functions by name: PyTorch's, else the system's."""
    if hasattr(ctypes.CDLL(None), "GOMP_parallel"):  # usual: PyTorch loads its own with RTLD_GLOBAL
        return
    package = Path(torch.__file__).parent
    carried = [*package.glob("lib/lib[gi]omp*.so*"), *package.with_name("torch.libs").glob("lib[gi]omp*.so*")]
    ctypes.CDLL(str(carried[0]) if carried else "libgomp.so.1", mode=ctypes.RTLD_GLOBAL)
