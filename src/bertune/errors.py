"""Errors for people: what is wrong, where, what is legal, what to do."""

import signal
from collections.abc import Iterable


class InputError(Exception):
    """Bad input or usage.

    The message is shown as it is, without a traceback, and the command ends with status 2.
    It names the file, line, column or option, the value, what is legal and the remedy.
    """


class FaultError(Exception):
    """The machine failed, not the input: a full disk, a folder that is gone or read-only, no memory.

    The message is shown as it is, without a traceback, and the command ends with status 1.
    It names the path, what was needed, what is kept and the remedy.
    """


class Interrupted(KeyboardInterrupt):
    """A signal ended a run, which keeps what it has. The command shows the message and ends with `status`.

    told: what is kept, and how to go on.
    """

    def __init__(self, number: signal.Signals, told: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.told = [told] if told else []

    @property
    def status(self) -> int:
        """128 + the signal's number, as shells have it: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + int(self.number)

    def __str__(self) -> str:
        return "; ".join([f"interrupted by {self.number.name}", *self.told])


class Problems:
    """Collects what is wrong, so that everything is told at once, before any long work.

    At most `limit` problems are spelled out; the rest are counted.
    """

    def __init__(self, limit: int = 20) -> None:
        self._limit = limit
        self._messages: list[str] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, message: str) -> None:
        """Note one problem."""
        self._count += 1
        if len(self._messages) < self._limit:
            self._messages.append(message)

    def extend(self, messages: Iterable[str]) -> None:
        """Note several problems."""
        for message in messages:
            self.add(message)

    def raise_if_any(self) -> None:
        """Raise one `InputError` that lists all problems; do nothing when there are none.

        Raises:
            InputError: with one line a problem.
        """
        if not self._count:
            return
        if self._count == 1:
            raise InputError(self._messages[0])
        lines = [f"{self._count} problems:", *(f"  - {message}" for message in self._messages)]
        if self._count > len(self._messages):
            lines.append(f"  … and {self._count - len(self._messages)} more like these")
        raise InputError("\n".join(lines))
