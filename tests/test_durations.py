"""Durations as options and messages have them."""

import pytest

from bertune.durations import Clock, duration, seconds_of
from bertune.errors import InputError


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("45", 45), ("0.5h", 1800)])
def test_durations(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-5m", "soon", "5 minutes", "m30"])
def test_no_durations(text: str) -> None:
    with pytest.raises(InputError, match="expected a duration above zero"):
        seconds_of(text)


def test_durations_for_people() -> None:
    assert [duration(x) for x in (45, 720, 7500)] == ["45 s", "12 min", "2 h 05 min"]


def test_parts_of_what_is_left() -> None:
    clock = Clock(100.0)
    part = clock.part(4)
    assert part.seconds == pytest.approx(25, abs=0.1)
    assert part.began >= clock.began
    assert clock.left <= 100
    assert clock.elapsed >= 0
    assert part.enough(10) == pytest.approx(clock.elapsed + 40, abs=0.1)
    assert Clock(-5.0).part(2).seconds == 0


def test_parts_of_parts_say_what_the_outermost_limit_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("bertune.durations.time.monotonic", lambda: now[0])
    whole = Clock(100, 0.0)
    now[0] = 10
    part = whole.part(3)
    assert part.left == 30
    now[0] = 12
    inner = part.part(2, kept=8)
    assert inner.left == 10
    now[0] = 15
    assert inner.over == 15
    assert inner.enough(20) == 10 + 3 * (2 + 2 * (3 + 20) + 8)
    assert whole.enough(5) == 20
