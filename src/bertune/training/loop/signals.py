"""SIGINT and SIGTERM while a run works: what is at hand is finished and kept first; a second signal ends it at once.

Signals belong to the process, so its one watch lies here. Where a run may stop at any point (reading data, evaluating),
a signal raises `Interrupted` there and then. Inside `deferred` it is noted only, and the loop asks for it between two
updates.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bertune.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Watch:
    """asked: the signal that came.  deferring: whether it has to wait.  active: whether signals come here."""

    def __init__(self) -> None:
        self.asked: signal.Signals | None = None
        self.deferring = False
        self.active = False

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (Python's form of a handler)
        first = self.asked is None
        self.asked = signal.Signals(number)
        if not (self.deferring and first):
            raise Interrupted(self.asked)
        # Neither print nor logging may be called again while one of them is at work.
        os.write(2, f"{self.asked.name}: finishing the update at hand; once more stops at once\n".encode())


_watch = _Watch()


@contextmanager
def watched() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise `Interrupted`, at once or where `deferred` ends.

    The handlers that were there before come back afterwards. A signal that the process ignores stays ignored. Outside
    the main thread, where Python allows no handlers, and inside another `watched`, nothing changes.
    """
    if _watch.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    _watch.active, _watch.asked, _watch.deferring = True, None, False
    try:
        for number in ours:
            signal.signal(number, _watch.handle)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _watch.active, _watch.asked, _watch.deferring = False, None, False


@contextmanager
def deferred() -> Iterator[None]:
    """Inside, a first signal is only noted; it is raised where the block ends.

    Raises:
        Interrupted: at the end, when a signal came and the block did not see to it; at once after a second one.
    """
    was, _watch.deferring = _watch.deferring, True
    try:
        yield
    finally:
        _watch.deferring = was
    raise_if_asked()


@contextmanager
def at_once() -> Iterator[None]:
    """Inside, which may lie in `deferred`, a signal is raised where it comes; one that was noted, at the start."""
    was, _watch.deferring = _watch.deferring, False
    try:
        raise_if_asked()
        yield
    finally:
        _watch.deferring = was


def asked() -> bool:
    """Whether a signal was noted."""
    return _watch.asked is not None


def ask(number: signal.Signals) -> None:
    """Note a signal that came to another process of the same run."""
    _watch.asked = number


def raise_if_asked(told: str = "") -> None:
    """Raise the signal that was noted, if there is one.

    told: what is kept.

    Raises:
        Interrupted: there is.
    """
    if _watch.asked is not None:
        raise Interrupted(_watch.asked, told)
