"""Errors for people: what is wrong, where, what is legal, what to do."""

import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


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

    details: what is kept, and how to go on.
    """

    def __init__(self, number: signal.Signals, details: str = "") -> None:
        super().__init__(number)
        self.number = number
        self.details = [details] if details else []

    @property
    def status(self) -> int:
        """128 + the signal's number, as shells have it: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + int(self.number)

    def __str__(self) -> str:
        return "; ".join([f"interrupted by {self.number.name}", *self.details])


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, for messages: "1 row", "12 rows".

    plural: where it is not the noun with an s.
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


_PLACE = re.compile(r"^(?P<before>.*?, (?:line|row)) (?P<number>\d+)(?P<after>[:,].*)$", re.DOTALL)
_EXAMPLES = 3

BadRow = Callable[[str, int], None]
"""Takes what is wrong with a row, and the row's line."""
_tolerated: ContextVar[BadRow | None] = ContextVar("bertune_bad_rows", default=None)


@contextmanager
def tolerating(report: BadRow | None) -> Iterator[None]:
    """Inside, problems that name a line go to `report` and are not counted by `Problems`; None: as outside."""
    token = _tolerated.set(report)
    try:
        yield
    finally:
        _tolerated.reset(token)


class Problems:
    """Collects what is wrong, so that everything is reported at once, before any long work.

    Problems that differ in their line alone are reported as one, with their number and the first three lines, where
    they are more than that. At most `limit` problems are spelled out; the rest are counted.
    """

    def __init__(self, limit: int = 20) -> None:
        self._limit = limit
        self._kinds: dict[tuple[str, str], _Similar] = {}
        self._unnamed = 0
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, message: str) -> None:
        """Note one problem."""
        place = _PLACE.match(message)
        report = _tolerated.get()
        if place and report is not None:
            report(message, int(place["number"]))
            return
        self._count += 1
        key = (place["before"], place["after"]) if place else (message, "")
        similar = self._kinds.get(key)
        if similar is None:
            if len(self._kinds) >= self._limit:
                self._unnamed += 1
                return
            similar = self._kinds[key] = _Similar()
        similar.count += 1
        if len(similar.lines) < _EXAMPLES:
            similar.lines.append(place["number"] if place else "")

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
        messages = [message for key, similar in self._kinds.items() for message in similar.messages(key)]
        if len(messages) == 1:
            raise InputError(messages[0])
        shown = messages[: self._limit]
        lines = [f"{self._count} problems:", *(f"  - {message}" for message in shown)]
        rest = self._unnamed + len(messages) - len(shown)
        if rest:
            lines.append(f"  … and {rest} more like these")
        raise InputError("\n".join(lines))


class _Similar:
    """Problems that differ in their line alone."""

    def __init__(self) -> None:  # no dataclass: importing them doubles the time of `bertune --help`
        self.count = 0
        self.lines: list[str] = []

    def messages(self, key: tuple[str, str]) -> list[str]:
        """One for each, or one for all of them where they are many."""
        before, after = key
        if self.count > _EXAMPLES and self.lines[0]:
            return [f"{before}s {', '.join(self.lines)}, … ({self.count} in all){after}"]
        return [f"{before} {line}{after}" if line else before for line in self.lines] + [before] * (
            self.count - len(self.lines)
        )
