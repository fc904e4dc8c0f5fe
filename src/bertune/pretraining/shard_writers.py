"""Shards of a corpus written by several processes, a bounded number of them at a time."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertune.data.documents import Document
from bertune.errors import FaultError

WriteShard = Callable[[Path, Sequence[Document], Mapping[str, Any]], None]
"""Where to, what of, and its description."""

AHEAD = 2
"""Shards a process that may wait for it: memory stays bounded by them."""
_PDEATHSIG = 1  # of prctl(2)

_write: WriteShard | None = None


@contextmanager
def shard_writers(write: WriteShard, workers: int) -> Iterator[WriteShard]:
    """What writes shards: this process, or several; when the block ends all are written.

    Args:
        write: writes one, and can be pickled.
        workers: how many processes; 1: this one.

    Raises:
        FaultError: a process was killed; the shards that are whole are kept.
    """
    if workers == 1:
        yield write
        return
    waiting: deque[Future[None]] = deque()
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start, initargs=(write, os.getpid()))

    def hand_over(target: Path, documents: Sequence[Document], described: Mapping[str, Any]) -> None:
        while len(waiting) >= AHEAD * workers:
            waiting.popleft().result()
        waiting.append(pool.submit(_write_one, target, documents, described))

    try:
        yield hand_over
        while waiting:
            waiting.popleft().result()
    except BrokenProcessPool:
        raise FaultError(
            "a process that tokenizes was killed, perhaps for its memory; the same command continues after the shards "
            "that are whole (fewer --workers need less memory)"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start(write: WriteShard, parent: int) -> None:
    """In a new process: take the writer, leave Ctrl-C to the parent, and end with it."""
    global _write  # noqa: PLW0603 (a worker writes one corpus)
    _write = write
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before
            os._exit(1)


def _write_one(target: Path, documents: Sequence[Document], described: Mapping[str, Any]) -> None:
    assert _write is not None
    _write(target, documents, described)
