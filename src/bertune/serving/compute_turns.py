"""Turns at the processor: all cores compute one batch at a time, whatever the number of models."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

_OMP_PAUSE_SOFT = 1
"""`omp_pause_soft` of OpenMP 5.0, section 3.2.44: threads end, settings stay."""


def release_openmp_threads() -> None:
    """End the OpenMP threads that help the calling thread; its next parallel loop starts them again.

    GNU's OpenMP keeps helpers for every thread that has run a parallel loop. As soon as they are more than the cores,
    all of them sleep between two loops instead of spinning: on two cores a forward pass of one sentence took 16 ms
    instead of 11 because the main thread had loaded the model. Does nothing without GNU's OpenMP.
    """
    release = _release_function()
    if release is not None:
        release(_OMP_PAUSE_SOFT)


def _release_function() -> Callable[[int], int] | None:
    process = _process()
    if process is None or not hasattr(process, "GOMP_parallel"):  # Windows, or another OpenMP
        return None
    release: Callable[[int], int] | None = getattr(process, "omp_pause_resource_all", None)  # None: older than 5.0
    return release


@cache
def _process() -> ctypes.CDLL | None:
    """The functions of all libraries in this process. Made once: each makes types, which wait for the collector."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows
        return None


class ComputeTurns:
    """Lets one thread compute at a time; where several take turns, each releases its OpenMP threads after its own."""

    def __init__(self) -> None:
        self._turn, self._count = threading.Lock(), threading.Lock()
        self.members = 0

    @contextmanager
    def member(self) -> Iterator[None]:
        """The calling thread is one of those that compute."""
        with self._count:
            self.members += 1
        try:
            yield
        finally:
            with self._count:
                self.members -= 1
            release_openmp_threads()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn and hold it."""
        with self._turn:
            try:
                yield
            finally:
                if self.members > 1:
                    release_openmp_threads()


TURNS = ComputeTurns()
"""Those of this process."""
