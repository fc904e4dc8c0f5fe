"""Progress where there is no terminal."""

import logging

import pytest

from bertune.progress import progress_bar


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(logging.getLogger("bertune"), "propagate", True)
    return now


def test_a_line_at_every_tenth_but_not_too_often(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bertune")
    with progress_bar("training", 100) as bar:
        for _ in range(100):
            clock[0] += 3.0
            bar.advance(1, "loss 0.5000")
    assert caplog.messages[0] == "training: 10 of 100 (10%), loss 0.5000, about 4 min left"
    assert len(caplog.messages) == 9  # the end is told by what follows


def test_quick_work_needs_no_lines(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bertune")
    with progress_bar("evaluating", 1000) as bar:
        for _ in range(1000):
            clock[0] += 0.009
            bar.advance()
    assert not caplog.messages


def test_slow_work_tells_every_minute(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bertune")
    with progress_bar("training", 1000, done=500) as bar:
        for _ in range(5):
            clock[0] += 40.0
            bar.advance()
    assert caplog.messages == [
        "training: 502 of 1000 (50%), about 5 h 32 min left",
        "training: 504 of 1000 (50%), about 5 h 30 min left",
    ]


def test_work_that_is_cut_short(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bertune")
    with progress_bar("training", 1000) as bar:
        bar.resize(20)
        clock[0] += 30.0
        bar.advance(10)
    assert caplog.messages == ["training: 10 of 20 (50%), about 30 s left"]


def test_work_of_unknown_size(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bertune")
    with progress_bar("rows answered", None) as bar:
        clock[0] += 20
        bar.advance(1000)
    assert caplog.messages == ["rows answered: 1000 so far, 50.0 a second"]
