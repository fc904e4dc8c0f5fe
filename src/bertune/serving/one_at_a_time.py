"""Long work beside the answers: one at a time, and only so much of it waits."""

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from bertune.serving.errors import RequestError

_Taken = ParamSpec("_Taken")
_Found = TypeVar("_Found")


class OneAtATime:
    """Runs calls in a thread one after the other. Those that wait hold no thread, of which an event loop has few."""

    def __init__(self, most_waiting: int) -> None:
        self._most = most_waiting
        self._turn = asyncio.Lock()
        self._calls = 0

    async def run(self, call: Callable[_Taken, _Found], *args: _Taken.args, **kwargs: _Taken.kwargs) -> _Found:
        """What the call returns, once it has had its turn.

        Raises:
            RequestError: 429, too many wait already.
        """
        if self._calls > self._most:
            raise RequestError(429, "overloaded", f"{self._most} such requests wait already", {"Retry-After": "5"})
        self._calls += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(call, *args, **kwargs)
        finally:
            self._calls -= 1
