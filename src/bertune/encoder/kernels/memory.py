"""Settings of the process that speed up large tensors on the CPU."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 1 << 30


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
