"""The connection of a request, where the server tells of it: whether the client is still there."""

from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

EXTENSION = "bertune.connection"
"""Under which an ASGI scope has it. ASGI's own way, to wait for the message `http.disconnect`, takes every request a
task of its own."""


@dataclass(eq=False)
class Connection:
    """One connection of a client.

    resume: reads from it again, where that was paused for a large body; the end of a connection is read too.
    lost: whether it is closed.
    came: whether all bytes of the latest request, and so of those before it, have come.
    """

    resume: Callable[[], object]
    lost: bool = False
    came: bool = False
    _when_lost: Callable[[], object] | None = field(default=None, init=False)

    def watch(self, when_lost: Callable[[], object]) -> None:
        """Call something when it is closed, perhaps at once; for the one request that is under way on it."""
        self._when_lost = when_lost
        if self.lost:
            when_lost()
        else:
            self.resume()

    def leave(self) -> None:
        """End the watch."""
        self._when_lost = None

    def lose(self) -> None:
        """It has been closed."""
        self.lost = True
        if self._when_lost is not None:
            self._when_lost()


def connection_of(request: Request) -> Connection | None:
    """The connection of a request; None under a server that does not tell of it."""
    extension = (request.scope.get("extensions") or {}).get(EXTENSION) or {}
    connection: Connection | None = extension.get("connection")
    return connection
