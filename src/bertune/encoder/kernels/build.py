"""Compile the kernels for the machine at hand with its own C compiler, once; keep the result in the user's cache."""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("c")
"""The folder of C files; kernels.c includes the others."""
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC", "-std=gnu11")
DEFINES: dict[torch.dtype, tuple[str, ...]] = {torch.float32: (), torch.bfloat16: ("-DBFLOAT16",)}


def cache_folder() -> Path:
    """Where compiled kernels lie: BERTUNE_CACHE, else the user's cache folder."""
    if "BERTUNE_CACHE" in os.environ:
        return Path(os.environ["BERTUNE_CACHE"]) / "kernels"
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "bertune" / "kernels"


def _processor() -> str:
    """What -march=native depends on: the processor's model and features."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled kernels for tensors of `dtype`; None where they cannot be had, and PyTorch's operations serve.

    BERTUNE_KERNELS=off turns them off. The first call on a machine compiles for about two seconds.
    """
    if os.environ.get("BERTUNE_KERNELS", "on").lower() in ("off", "0", "no", "false") or dtype not in DEFINES:
        return None
    if sys.platform != "linux" or sys.byteorder != "little":
        return None
    try:
        return ctypes.CDLL(str(_compiled(dtype)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        logger.warning("CPU kernels are not available (%s); going on with PyTorch's operations, more slowly.", detail)
        return None


def _source_texts() -> list[str]:
    """Names and texts of all C files."""
    files = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")])
    return [text for file in files for text in (file.name, file.read_text(encoding="utf-8"))]


def _compiled(dtype: torch.dtype) -> Path:
    """Path of the shared library, compiled now if the cache lacks it. Raises OSError or SubprocessError."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("no C compiler found; install gcc or clang, or set CC")
    flags = (*FLAGS, *DEFINES[dtype])
    key = "\0".join([*_source_texts(), *flags, compiler, _processor()])
    target = cache_folder() / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    beside = Path(name)
    try:
        subprocess.run(
            [compiler, *flags, str(SOURCES / "kernels.c"), "-o", str(beside), "-lm"],
            check=True,
            capture_output=True,
            text=True,
            timeout=120,
        )
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
    return target
