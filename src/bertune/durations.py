"""Durations as options and messages have them: 90s, 30m, 1h30m; 12 min."""

import re
import time
from dataclasses import dataclass, field

from bertune.errors import InputError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


def seconds_of(text: str) -> float:
    """A duration such as `90s`, `30m`, `1h30m`, or a plain number of seconds.

    Raises:
        InputError: anything else, or nothing above zero.
    """
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", plain):
        total = float(plain)
    elif _DURATION.fullmatch(plain):
        total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", plain))
    else:
        total = 0.0
    if total <= 0:
        raise InputError(f"--time-limit {text}: expected a duration above zero, like 90s, 30m, 2h or 1h30m")
    return total


def duration(seconds: float) -> str:
    """Seconds as people read them: 45 s, 12 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


@dataclass(frozen=True)
class Clock:
    """A time limit that runs from the moment it is made.

    seconds: the limit.  began: of `time.monotonic`.
    whole: the limit that this is a part of.  spent, shares, kept: the seconds of that one until the part began, how
        many parts of this size it is to hold from then on, and the seconds that it keeps for something else.
    """

    seconds: float
    began: float = field(default_factory=time.monotonic)
    spent: float = 0.0
    shares: int = 1
    kept: float = 0.0
    whole: "Clock | None" = None

    @property
    def left(self) -> float:
        """Seconds until the limit; negative after it."""
        return self.began + self.seconds - time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def over(self) -> float:
        """Seconds since the outermost limit began."""
        return self.before + self.elapsed

    @property
    def before(self) -> float:
        """Seconds of the outermost limit until this one began."""
        return 0.0 if self.whole is None else self.spent + self.whole.before

    def part(self, count: int, *, kept: float = 0.0) -> "Clock":
        """A clock that begins now with one of `count` equal parts of what is left, less `kept` seconds."""
        seconds = max(0.0, self.left - kept) / count
        return Clock(seconds, time.monotonic(), spent=self.elapsed, shares=count, kept=kept, whole=self)

    def enough(self, more: float) -> float:
        """The outermost limit in which every part could take so many seconds from now on."""
        return self._enough(self.elapsed + more)

    def _enough(self, own: float) -> float:
        return own if self.whole is None else self.whole._enough(self.spent + self.shares * own + self.kept)
