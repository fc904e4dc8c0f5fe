"""A run of predictions that is stopped by a signal says what it leaves."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bertune.errors import Interrupted


@contextmanager
def interruptible(kept: Callable[[], str]) -> Iterator[None]:
    """SIGTERM ends a run as Ctrl-C does. kept: tells, for the message, what is there and how to go on."""

    def stop(number: int, frame: object) -> None:  # noqa: ARG001 (the form of a handler)
        raise Interrupted(signal.Signals(number), kept())

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in ours}
    try:
        for number in ours:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
