"""SIGINT and SIGTERM during a run: the current update is finished and saved first; a second signal stops at once.

Signal handlers are global to the process, so their state is kept in this module. Where a run may stop at any point
(reading data, evaluating), a signal raises `Interrupted` at once. Inside `signals_deferred` it is only recorded, and
the training loop checks for it between two updates.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bertune.distributed.world import current
from bertune.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Watch:
    """stop_requested: the signal that came.  deferring: whether it has to wait.  active: whether signals come here."""

    def __init__(self) -> None:
        self.stop_requested: signal.Signals | None = None
        self.deferring = False
        self.active = False

    def handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 (Python's form of a handler)
        first = self.stop_requested is None
        self.stop_requested = signal.Signals(number)
        if not (self.deferring and first):
            current().announce_stop(self.stop_requested)
            raise Interrupted(self.stop_requested)
        # Neither print nor logging may be called again while one of them is at work.
        os.write(2, f"{self.stop_requested.name}: finishing this step; once more stops at once\n".encode())


_watch = _Watch()


@contextmanager
def signals_handled() -> Iterator[None]:
    """Inside, SIGINT and SIGTERM raise `Interrupted`, at once or where `signals_deferred` ends.

    The handlers that were there before come back afterwards. A signal that the process ignores stays ignored. Outside
    the main thread, where Python allows no handlers, and inside another `signals_handled`, nothing changes.
    """
    if _watch.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    ours = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    _watch.active, _watch.stop_requested, _watch.deferring = True, None, False
    try:
        for number in ours:
            signal.signal(number, _watch.handle)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
        _watch.active, _watch.stop_requested, _watch.deferring = False, None, False


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Inside, a first signal is only noted; it is raised where the block ends.

    Raises:
        Interrupted: at the end, when a signal came and the block did not see to it; at once after a second one.
    """
    was, _watch.deferring = _watch.deferring, True
    try:
        yield
    finally:
        _watch.deferring = was
    raise_if_requested()


@contextmanager
def signals_immediate() -> Iterator[None]:
    """Inside (also within `signals_deferred`), a signal raises where it arrives; one recorded before, at the start."""
    was, _watch.deferring = _watch.deferring, False
    try:
        raise_if_requested()
        yield
    finally:
        _watch.deferring = was


def stop_requested() -> bool:
    """Whether a signal was noted."""
    return _watch.stop_requested is not None


def request_stop(number: signal.Signals) -> None:
    """Note a signal that came to another process of the same run."""
    _watch.stop_requested = number


def raise_if_requested(details: str = "") -> None:
    """Raise the signal that was noted, if there is one.

    Also one that was raised already and lost on its way: Python drops what a handler raises while a callback of the
    garbage collector or of the import system is at work.

    details: what is kept.

    Raises:
        Interrupted: there is.
    """
    if _watch.stop_requested is not None:
        raise Interrupted(_watch.stop_requested, details)
