"""A command that a signal stops says what it leaves, and stops the other ranks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bertune.distributed.world import current
from bertune.errors import Interrupted


@contextmanager
def status_stands(*, ours: bool = True) -> Iterator[None]:
    """Around all that a rank does: SIGTERM changes nothing where the work inside does not handle it, nor afterwards.

    torchrun sends it to all ranks when the first has ended, and one that is at its own end would die with status -15.

    ours: whether the process ends with the block; otherwise nothing changes.
    """
    main = threading.current_thread() is threading.main_thread()
    if not (ours and main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL):
        yield
        return
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Python takes handlers away before it ends


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[Callable[[], None]]:
    """SIGTERM ends a command as Ctrl-C does, and stops the other ranks too.

    kept: tells, for the message, what is there and how to go on; "": nothing.

    Yields: to be called now and then: raises a signal again that was lost. Python drops what a handler raises while
    a callback of the garbage collector or of the import system is at work.
    """
    came: list[signal.Signals] = []

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 (the form of a handler)
        came.append(signal.Signals(number))
        current().announce_stop(came[0])
        raise_again()

    def raise_again() -> None:
        if came:
            raise Interrupted(came[0], kept())

    if threading.current_thread() is not threading.main_thread():
        yield raise_again
        return
    ours = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in ours}
    try:
        for number in ours:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield raise_again
    finally:
        for number in ours:
            signal.signal(number, before[number])
