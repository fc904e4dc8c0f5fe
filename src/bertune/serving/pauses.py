"""Between two batches the event loop has the processor: answers go out, and what their clients ask next comes in."""

import asyncio
import threading
from collections.abc import Callable

QUIET = 6
"""Turns of the event loop without a new request after which no more are expected at once."""
SECONDS = 0.05
"""Longest pause, should the event loop be held up."""


class LoopPause:
    """Lets an event loop do what is ready, while nothing is computed; it ends as soon as nothing more comes.

    On a CPU the parallel loops of a batch wait for the slowest core, so what the event loop does beside a batch takes
    as long as it would before it, and the two threads fight for the interpreter's lock besides. Done between batches
    it costs no more, and the next batch holds the requests that follow the answers instead of half of them.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        """Requests come from this event loop."""
        self._loop = loop

    def take(self, arrived: Callable[[], int]) -> None:
        """Called from a thread that computes: return when the loop has nothing more to do at once.

        arrived: counts the requests that have come so far.
        """
        loop, over = self._loop, threading.Event()
        if loop is None or loop.is_closed():
            return

        def turn(before: int, quiet: int) -> None:
            now = arrived()
            quiet = quiet + 1 if now == before else 0
            if quiet >= QUIET:
                over.set()
            elif not over.is_set():
                loop.call_soon(turn, now, quiet)

        try:
            loop.call_soon_threadsafe(turn, arrived(), 0)
        except RuntimeError:  # it has been closed meanwhile
            return
        over.wait(SECONDS)
        over.set()
