"""The processes ("ranks") that torchrun started together: who this one is, and what they exchange.

`current()` is the one place that knows. Without torchrun it is `ALONE`, whose operations do nothing, so that code is
written once. torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT) are all
that is read; there is no option.
"""

import contextlib
import datetime
import itertools
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from bertune.errors import FaultError, Interrupted
from bertune.processor import usable_cores

logger = logging.getLogger(__name__)

ValueT = TypeVar("ValueT")

TIMEOUT = datetime.timedelta(minutes=30)
"""How long a rank waits for the others: one of them may be writing a checkpoint, or tokenizing for all."""
_LOOK_EVERY = datetime.timedelta(seconds=0.5)
"""How long a rank waits at a time: signals are handled in between, which PyTorch's waiting keeps out."""


@dataclass(frozen=True)
class World:
    """Which of how many processes this is, and what they do together. Every rank must call the same operations.

    rank: from 0.  size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files, logs and results for all."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over ranks, in place; equal bit for bit on all of them. Shape: any, the same on all."""
        if self.size > 1:
            _exchange(tensor, lambda: torch.distributed.all_reduce(tensor, async_op=True))
        return tensor

    def most(self, tensor: Tensor) -> Tensor:
        """The largest values of a tensor over ranks, in place. Shape: any, the same on all."""
        if self.size > 1:
            _exchange(
                tensor, lambda: torch.distributed.all_reduce(tensor, op=torch.distributed.ReduceOp.MAX, async_op=True)
            )
        return tensor

    def gather(self, value: ValueT) -> list[ValueT]:
        """Every rank's value, in the order of ranks, on all of them. value: anything that can be pickled."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        self.wait()
        _told(lambda: torch.distributed.all_gather_object(found, value))
        return found

    def gather_alike(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor, in the order of ranks. Shape: any, the same on all."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        _exchange(tensor, lambda: torch.distributed.all_gather(found, tensor, async_op=True))
        return found

    def gather_tensors(self, tensor: Tensor) -> list[Tensor]:
        """Every rank's tensor. Shape: (n, …) each, where n may differ from rank to rank."""
        if self.size == 1:
            return [tensor]
        counts = torch.zeros(self.size, dtype=torch.int64, device=tensor.device)
        counts[self.rank] = len(tensor)
        lengths = self.sum(counts).tolist()
        padded = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        return [one[:length] for one, length in zip(self.gather_alike(padded), lengths, strict=True)]

    def agree(self, value: ValueT) -> ValueT:
        """Rank 0's value, on all ranks."""
        if self.size == 1:
            return value
        box: list[Any] = [value]
        self.wait()
        _told(lambda: torch.distributed.broadcast_object_list(box, src=0))
        found: ValueT = box[0]
        return found

    def copy_from_first(self, tensor: Tensor) -> Tensor:
        """Rank 0's values, in place. Shape: any, the same on all ranks."""
        if self.size > 1:
            _exchange(tensor, lambda: torch.distributed.broadcast(tensor, src=0, async_op=True))
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on any rank."""
        return flag if self.size == 1 else bool(self.most(torch.tensor([int(flag)])).item())

    def count(self, name: str) -> Iterator[int]:
        """Numbers from 0 of a counter that all ranks draw from: every number goes to one of them.

        name: of the counter, which a process uses once.
        """
        if self.size == 1:
            yield from itertools.count()
        while True:
            yield _store().add(f"bertune/counter/{name}/{_attempt()}", 1) - 1

    def announce_stop(self, number: signal.Signals) -> None:
        """Let the other ranks know that a signal ends this one: what they wait for in vain then ends them likewise."""
        if self.size > 1:
            with contextlib.suppress(RuntimeError):  # the store is gone with the process that held it
                _store().set(_stop_key(), str(int(number)))

    def raise_if_stopped(self) -> None:
        """For ranks that exchange nothing for long: end as another one did.

        Raises:
            Interrupted: another rank was stopped by a signal.
        """
        if self.size > 1 and (number := _announced_stop()) is not None:
            raise Interrupted(number)

    def wait(self) -> None:
        """Wait until every rank is here."""
        self.any(False)

    def first_then_others(self, work: Callable[[], ValueT]) -> ValueT:
        """Do something on rank 0, then on the others, which find what it left in a cache."""
        if self.is_first:
            found = work()
        self.wait()
        if not self.is_first:
            found = work()
        return found


ALONE = World()
_current = ALONE


def current() -> World:
    """The ranks that this process belongs to; `ALONE` unless `start` found others."""
    return _current


@contextmanager
def apart() -> Iterator[None]:
    """Inside, this process works for itself alone, as if torchrun had not started the others."""
    global _current  # noqa: PLW0603
    before, _current = _current, ALONE
    try:
        yield
    finally:
        _current = before


def is_launched() -> bool:
    """Whether torchrun started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_one_machine() -> bool:
    """Whether all ranks run on this machine."""
    return is_launched() and os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]


def is_restart() -> bool:
    """Whether torchrun started the processes anew, after one of them had failed (`--max-restarts`)."""
    return is_launched() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def local_rank() -> int:
    """This process's number among those of its machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0")) if is_launched() else 0


def start() -> World:
    """Join the ranks that torchrun started; without torchrun nothing happens.

    Ranks other than 0 say nothing from here on but errors, and print nothing. PyTorch computes with this machine's
    cores divided by its ranks: torchrun sets OMP_NUM_THREADS to 1 for all of them otherwise.

    Raises:
        FaultError: the other ranks cannot be reached.
    """
    global _current  # noqa: PLW0603 (a process belongs to one world)
    if _current is not ALONE or not is_launched():
        return _current
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(local_rank())
    backend = "cpu:gloo,cuda:nccl" if gpus and torch.distributed.is_nccl_available() else "gloo"
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        if not torch.distributed.is_initialized():  # as it is under Ray Train
            store = _store_of_attempt(size)
            torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise FaultError(f"rank {rank} of {size}: cannot reach the others ({_short(error)})") from None
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        threads = max(1, usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", str(size))))
        torch.set_num_threads(threads)
    _current = World(rank, size)
    if rank:
        from bertune.progress import console

        logging.getLogger("bertune").setLevel(logging.ERROR)
        console.quiet = True
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for the rest of the process)
    else:
        logger.info("%d ranks, %d threads each, %s", size, torch.get_num_threads(), backend)
    return _current


def is_first_to_tell() -> bool:
    """Whether this rank shall show an error: of ranks that fail together one does, the first to ask."""
    if not is_launched():
        return True
    if _current is ALONE:
        return os.environ["RANK"] == "0"
    try:
        return bool(_store().add(f"bertune/told/{_attempt()}", 1) == 1)
    except RuntimeError:  # the store is gone with the process that held it
        return True


def leave(*, wait: bool = True) -> None:
    """Take leave of the other ranks at the end of a command that succeeded. wait: until all of them have come here."""
    global _current  # noqa: PLW0603
    if _current is not ALONE and torch.distributed.is_initialized():
        if wait:
            _current.wait()
        torch.distributed.destroy_process_group()
        _current = ALONE


def _store_of_attempt(size: int) -> Any:
    """What the ranks meet in, of this attempt's own.

    After a restart torchrun hands out the store of the attempt before, in which the ranks would find addresses of
    processes that are gone, and wait for them (PyTorch 2.13, `DynamicRendezvousHandler.next_rendezvous`).
    """
    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    return torch.distributed.PrefixStore(f"bertune/{_attempt()}/{size}", store)  # type: ignore[attr-defined]


def _exchange(tensor: Tensor, begin: Callable[[], Any]) -> None:
    """Exchange a tensor. begin: starts to, and returns PyTorch's `Work`.

    Raises:
        Interrupted: this rank or another one was stopped by a signal.
        FaultError: another rank stopped.
    """

    def exchange() -> None:
        work = begin()
        if tensor.device.type == "cpu":
            _wait_for(work)
        else:
            work.wait()

    _told(exchange)


def _wait_for(work: Any) -> None:
    """Wait for an exchange, and meanwhile for signals: a rank may wait minutes for one that tokenizes for all."""
    while True:
        try:
            work.wait(_LOOK_EVERY)
        except RuntimeError:
            if work.is_completed():  # failed, or finished just now
                work.wait()
                return
            if (number := _announced_stop()) is not None:
                raise Interrupted(number) from None
        else:
            return


def _told(operation: Callable[[], object]) -> None:
    """Run an exchange; a rank that is gone becomes a message.

    Raises:
        Interrupted: another rank was stopped by a signal.
        FaultError: another rank stopped.
    """
    try:
        operation()
    except RuntimeError as error:
        if (number := _announced_stop()) is not None:
            raise Interrupted(number) from None
        raise FaultError(f"another rank stopped, so this one does too ({_short(error)})") from None


def _announced_stop() -> signal.Signals | None:
    """The signal that ended another rank, where it could still say so."""
    try:
        store = _store()
        return signal.Signals(int(store.get(_stop_key()))) if store.check([_stop_key()]) else None
    except RuntimeError:  # the store is gone with the process that held it
        return None


def _store() -> Any:
    """Small values that all ranks see."""
    return torch.distributed.distributed_c10d._get_default_store()


def _stop_key() -> str:
    return f"bertune/stopped/{_attempt()}"


def _attempt() -> str:
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120]
