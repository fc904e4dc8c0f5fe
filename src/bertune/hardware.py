"""Which device computes, and in which numbers."""

import ctypes
import sys

import torch

from bertune import processor
from bertune.distributed.world import is_launched, local_rank
from bertune.errors import InputError
from bertune.options import DEVICES, PRECISIONS

_M_TRIM_THRESHOLD = -1  # parameters of mallopt(3)
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes a GPU where there is one.

    Raises:
        InputError: a device that this machine lacks.
    """
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return _own(next(kind for kind in ("cuda", "mps", "cpu") if present[kind]))
    if name not in present:
        raise InputError(f"--device {name}: known are {', '.join(DEVICES)}")
    if not present[name]:
        raise InputError(f"--device {name}: this machine has none that PyTorch can use; take --device auto")
    return _own(name)


def _own(kind: str) -> torch.device:
    """The device of a kind; of several GPUs the one of this rank."""
    return torch.device(kind, local_rank()) if kind == "cuda" and is_launched() else torch.device(kind)


def leaves_host_free(device: torch.device) -> bool:
    """Whether the CPU has time for other things while this device computes."""
    return device.type != "cpu"


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """The type that the encoder's matrices compute in.

    `auto` takes bfloat16 where the hardware multiplies it natively and float32 elsewhere: emulated bfloat16 is a
    hundred times slower.

    Raises:
        InputError: an unknown precision, or float16 on a CPU.
    """
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: known are {', '.join(PRECISIONS)}")
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if precision == "fp16":
        if device.type == "cpu":
            raise InputError("--precision fp16: not on a CPU; take bf16 or fp32")
        return torch.float16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    native = processor.features() & {"avx512_bf16", "amx_bf16", "bf16"}
    return torch.bfloat16 if device.type == "cpu" and native else torch.float32


def prepare_process(device: torch.device) -> None:
    """Settings of the whole process that cost nothing and speed up its work: memory kept for the next tensor."""
    if device.type == "cpu":
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Let the C library keep large freed blocks for the next tensor instead of returning them to the system.

    A training step allocates the same large tensors again and again; by default each is mapped and zeroed afresh by the
    system, page by page (malloc(3), mallopt(3)). Does nothing where the C library is not glibc.
    """
    if sys.platform != "linux":
        return
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE)
    mallopt(_M_TRIM_THRESHOLD, _LARGE)
