"""What records work as CUDA graphs and replays it: the host launches one thing instead of a thousand."""

import contextlib
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Protocol, TextIO

import torch

Work = Callable[[], None]

CANNOT_RECORD = (RuntimeError, MemoryError, AttributeError, TypeError)
"""What recording raises where it fails: operations that no graph holds, too little memory, a PyTorch that differs."""

_one_at_a_time = threading.Lock()
"""PyTorch records no two graphs at once in one process, and its watch over waits belongs to the process too."""
_WAITED = "called a synchronizing"
"""What PyTorch's warnings of a wait have in common."""
_begun: list[torch.cuda.CUDAGraph] = []
"""That at work, and for good those that failed: PyTorch's allocator goes on asking a graph that never ended."""


class Recorder(Protocol):
    """What records work and replays it."""

    def ready(self) -> contextlib.AbstractContextManager[None]:
        """Where all work is made, recorded or not."""
        ...

    def watch(self) -> contextlib.AbstractContextManager[list[str]]:
        """A block whose waits of the host for the device are told in the list when it ends."""
        ...

    def record(self, work: Work) -> Work:
        """What replays the work. The work itself is not done. Raises where it cannot be recorded."""
        ...


class CudaRecorder:
    """Records on a stream of its own; the graphs share one pool of memory, for only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """On that stream, after what the current one has begun; the current one goes on after it."""
        outside = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            torch.cuda.set_stream(outside)  # a recording that failed leaves another one
            outside.wait_stream(self._stream)

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[str]]:
        """PyTorch's own watch over operations that wait; what other threads wait for, or warn of, is not told."""
        waits: list[str] = []
        thread = threading.get_ident()
        with _one_at_a_time, warnings.catch_warnings():
            before, show = torch.cuda.get_sync_debug_mode(), warnings.showwarning

            def note(
                message: Warning | str,
                category: type[Warning],
                filename: str,
                lineno: int,
                file: TextIO | None = None,
                line: str | None = None,
            ) -> None:
                if _WAITED not in str(message):
                    show(message, category, filename, lineno, file, line)
                elif threading.get_ident() == thread:
                    waits.append(f"{filename}:{lineno}")
                elif before:  # another thread's, whose program asked for them
                    show(message, category, filename, lineno, file, line)

            warnings.filterwarnings("always", f".*{_WAITED}")
            warnings.showwarning = note
            torch.cuda.set_sync_debug_mode("warn")
            try:
                yield waits
            finally:
                torch.cuda.set_sync_debug_mode(before)

    def record(self, work: Work) -> Work:
        """A CUDA graph of the work."""
        graph = torch.cuda.CUDAGraph()
        with _one_at_a_time:
            _begun.append(graph)
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                work()
            _begun.remove(graph)  # else its memory would outlive what replays it
        return graph.replay


def recorder_for(device: torch.device) -> Recorder | None:
    """What records on a device; None where nothing can, or BERTUNE_CUDA_GRAPHS=off says not to."""
    if device.type != "cuda" or os.environ.get("BERTUNE_CUDA_GRAPHS") == "off":
        return None
    return CudaRecorder(device)
