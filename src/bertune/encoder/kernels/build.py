"""The kernels for the processor's instruction-set level: from the wheel, or compiled once by the machine's C compiler.

What is compiled here stays in the user's cache, one file for each level and type of tensors.
"""

import ctypes
import functools
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from bertune import processor
from bertune.encoder.kernels import prebuilt
from bertune.files.cache import cache_folder

logger = logging.getLogger(__name__)

SOURCES = Path(__file__).with_name("c")
"""The folder of C files; kernels.c includes the others."""
FLAGS = (
    *("-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC", "-std=gnu11"),
    # Else the last few values of a row are copied by calls of memcpy, for which all vectors leave their registers.
    "-fno-tree-loop-distribute-patterns",
)
DEFINES: dict[torch.dtype, tuple[str, ...]] = {torch.float32: (), torch.bfloat16: ("-DBFLOAT16",)}


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL | None:
    """The compiled kernels for tensors of `dtype`; None where they cannot be had, and PyTorch's operations serve.

    BERTUNE_KERNELS=off turns them off; BERTUNE_ISA holds them to a lower level than the processor's (see
    `processor.level`). A wheel carries the usual levels compiled (`prebuilt`); of another level, or in a source
    checkout, the first call on a machine compiles for two to eight seconds. The answer is cached.

    Raises:
        InputError: BERTUNE_ISA names a level that does not exist or that this processor lacks.
    """
    if os.environ.get("BERTUNE_KERNELS", "on").lower() in ("off", "0", "no", "false") or dtype not in DEFINES:
        return None
    if sys.platform != "linux" or sys.byteorder != "little":
        return None
    level = processor.level()
    carried = prebuilt.find(level, dtype)
    if carried is not None:
        try:
            return prebuilt.load(carried)
        except OSError as error:
            logger.warning("The CPU kernels that were installed cannot be loaded (%s); compiling them.", error)
    try:
        return ctypes.CDLL(str(_compiled(dtype, level)))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or error
        logger.warning("CPU kernels are not available (%s); going on with PyTorch's operations, more slowly.", detail)
        return None


def compiler_flags(level: str, dtype: torch.dtype) -> tuple[str, ...]:
    """Arguments of GCC or Clang for the kernels of a level and a type of tensors."""
    return (*FLAGS, *processor.LEVELS[level].flags, *DEFINES[dtype])


def _source_texts() -> list[str]:
    """Names and texts of all C files."""
    files = sorted([*SOURCES.glob("*.c"), *SOURCES.glob("*.h")])
    return [text for file in files for text in (file.name, file.read_text(encoding="utf-8"))]


def _compiled(dtype: torch.dtype, level: str) -> Path:
    """Path of a level's shared library, compiled now if the cache lacks it. Raises OSError or SubprocessError."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise OSError("no C compiler found; install gcc or clang, or set CC")
    flags = compiler_flags(level, dtype)
    key = "\0".join([*_source_texts(), *flags, compiler, processor.machine()])
    name = f"{level}-{str(dtype).removeprefix('torch.')}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.so"
    target = cache_folder("kernels") / name
    if target.exists():
        return target
    logger.info("compiling the CPU kernels, once on this machine (%s, %s)", level, str(dtype).removeprefix("torch."))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(suffix=".so", dir=target.parent)
    os.close(handle)
    beside = Path(unfinished)
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
