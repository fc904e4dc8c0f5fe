"""Memory of a service that runs for months: what is kept of every shape of a batch, and by every thread, is limited."""

import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, MutableMapping

CACHES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "256", "LRU_CACHE_CAPACITY": "32"}
"""Prepared products that oneDNN and PyTorch keep, each 1024 unless it is told: with texts of ever new lengths they grow
by hundreds of MiB. oneDNN's 256 hold the shapes of single texts; benchmarks/LOG.md has what they cost."""
_FORMER = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "DNNL_PRIMITIVE_CACHE_CAPACITY"}
"""A name that oneDNN reads as well."""
_M_ARENA_MAX = -8
"""The parameter of mallopt(3)."""
_ARENAS = 1
"""Heaps of the C library. By default nearly every thread gets its own, in each of which freed memory stays apart."""


def limit_caches(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set the limits for this process, where its environment has none; to call before anything is computed.

    Both libraries read them once, at their first product.
    """
    for name, value in CACHES.items():
        if _FORMER.get(name, name) not in environment:
            environment.setdefault(name, value)


def limit_heaps() -> None:
    """Let all threads share one heap of the C library; for a process that has not begun many threads.

    Does nothing where the environment has MALLOC_ARENA_MAX, or the C library is not glibc.
    """
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    try:
        ctypes.CDLL("libc.so.6").mallopt(_M_ARENA_MAX, _ARENAS)
    except (OSError, AttributeError):
        return


class Heap:
    """Gives what the C library's heaps hold without use back to the system, between two batches.

    What oneDNN keeps of every shape is allocated and freed between the large tensors of the batches, and splits the
    free memory that they leave, until a batch finds no piece that is large enough and the heap grows. glibc gives
    memory back from the heap's end alone; `malloc_trim` does from its middle.
    """

    IDLE_SECONDS = 10.0
    """Shortest time between two calls when nothing waits to be computed."""
    BUSY_SECONDS = 30.0
    """The same when batches follow each other without a rest: a call takes 5 to 50 ms, in which nothing is computed."""

    def __init__(self, trim: Callable[[], object] | None, now: Callable[[], float] = time.monotonic) -> None:
        """Take a heap.

        trim: gives memory back; None: the system has nothing for it.
        """
        self._trim, self._now = trim, now
        self._last, self._lock = now(), threading.Lock()

    def between_batches(self, *, idle: bool) -> None:
        """Called by a thread that computes. idle: whether nothing waits."""
        if self._trim is None or self._now() - self._last < (self.IDLE_SECONDS if idle else self.BUSY_SECONDS):
            return
        if self._lock.acquire(blocking=False):  # else another model's thread is at it
            try:
                self._trim()
                self._last = self._now()
            finally:
                self._lock.release()


def _malloc_trim() -> Callable[[], object] | None:
    """The `malloc_trim(0)` of glibc; None under another C library."""
    if sys.platform != "linux":
        return None
    try:
        trim = ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
    return lambda: trim(0)


HEAP = Heap(_malloc_trim())
"""That of this process."""
