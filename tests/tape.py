"""A recorder that stands for CUDA's graphs on the CPU: it replays operations, not Python.

Every operation of the work is noted with the tensors that it read and wrote, and done again on the same memory. What
Python decided, and what was computed before, stays as it was, as in a graph. Kernels that PyTorch knows nothing of are
not seen: tests turn them off.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bertune.cuda.recording import Work


class _Notes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, tree_leaves(result)))
        return result

    def again(self) -> None:
        for func, args, kwargs, written in self.calls:
            for old, new in zip(written, tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Tape:
    """fails: which recording does, and with what.  waits: what work is said to wait for.  See `recording.Recorder`."""

    def __init__(
        self, *, fails: int | None = None, error: Exception | None = None, waits: list[str] | None = None
    ) -> None:
        self.fails, self.waits = fails, waits or []
        self.error = error or RuntimeError("operation not permitted when stream is capturing\nmore")
        self.recorded = self.replayed = self.inside = 0

    def __call__(self, device: torch.device) -> "Tape":
        """As the recorder for any device."""
        return self

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        self.inside += 1
        yield

    @contextlib.contextmanager
    def watch(self) -> Iterator[list[str]]:
        told: list[str] = []
        yield told
        told += self.waits

    def record(self, work: Work) -> Work:
        if self.recorded == self.fails:
            raise self.error
        self.recorded += 1
        notes = _Notes()
        with notes:
            work()

        def replay() -> None:
            self.replayed += 1
            notes.again()

        return replay
