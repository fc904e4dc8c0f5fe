"""Memory of a service that runs for months: what is kept of every shape of a batch, and by every thread, is limited."""

import ctypes
import os
import sys
from collections.abc import MutableMapping

CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "32"}
"""Prepared products that oneDNN and PyTorch keep, each 1024 unless it is told: with texts of ever new lengths they grow
by hundreds of MiB. oneDNN's 256 hold the shapes of single texts; benchmarks/LOG.md has what they cost."""
_FORMER = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "DNNL_PRIMITIVE_CACHE_CAPACITY"}
"""A name that oneDNN reads as well."""
_M_ARENA_MAX = -8
"""The parameter of mallopt(3)."""
_ARENAS = 2
"""Heaps of the C library. By default nearly every thread gets its own, in each of which freed memory stays apart."""


def limit_caches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the limits for this process, where its environment has none; to call before anything is computed.

    Both libraries read them once, at their first product.
    """
    for name, value in CACHES.items():
        if _FORMER.get(name, name) not in environment:
            environment.setdefault(name, value)


def limit_heaps() -> None:
    """Let all threads share few heaps of the C library; for a process that has not begun many threads.

    Does nothing where the environment has MALLOC_ARENA_MAX, or the C library is not glibc.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    try:
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, _ARENAS)
    except (OSError, AttributeError):
        return
