"""The fastest way is measured once, stored, and read again; damaged or foreign entries are measured anew."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bertune import fastest as module
from bertune.fastest import fastest


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path))
    module.forget()
    yield tmp_path / "fastest"
    module.forget()


def takes(milliseconds: float, calls: list[str], name: str) -> Callable[[], None]:
    def work() -> None:
        calls.append(name)
        time.sleep(milliseconds / 1e3)

    return work


def test_measured_once_and_then_read(cache: Path) -> None:
    calls: list[str] = []
    ways = {"slow": takes(8, calls, "slow"), "quick": takes(1, calls, "quick")}
    start = time.perf_counter()
    assert fastest("question", ways) == "quick"
    assert time.perf_counter() - start < 2
    assert len(calls) <= 2 * (1 + module.ROUNDS)
    calls.clear()
    module.forget()  # as another process would begin
    assert fastest("question", ways) == "quick"
    assert not calls
    (file,) = cache.iterdir()
    assert json.loads(file.read_text())["question"]["quick"] < 0.008


def test_a_narrow_lead_changes_nothing(cache: Path) -> None:
    calls: list[str] = []
    ways = {"first": takes(1, calls, "first"), "second": takes(1, calls, "second")}
    fastest("question", ways)
    (file,) = cache.iterdir()
    content = json.loads(file.read_text())
    for lead, expected in ((1.04, "first"), (1.06, "second"), (0.5, "first")):
        content["question"] = {"first": 1.0 * lead, "second": 1.0}
        file.write_text(json.dumps(content))
        module.forget()
        assert fastest("question", ways) == expected


@pytest.mark.parametrize(
    "entry", ["no object", {"slow": 1.0}, {"slow": "1", "quick": 2.0}, {"slow": 0.0, "quick": 1.0}]
)
def test_damaged_entries_are_measured_anew(cache: Path, entry: object) -> None:
    calls: list[str] = []
    ways = {"slow": takes(5, calls, "slow"), "quick": takes(1, calls, "quick")}
    fastest("question", ways)
    (file,) = cache.iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"question": entry}))
    module.forget()
    calls.clear()
    assert fastest("question", ways) == "quick"
    assert calls
    file.write_text("{")
    module.forget()
    assert fastest("question", ways) == "quick"


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "file"))
    assert fastest("question", {"slow": takes(5, [], ""), "quick": takes(1, [], "")}) == "quick"


def test_one_way_is_not_measured(cache: Path) -> None:
    calls: list[str] = []
    assert fastest("question", {"only": takes(1, calls, "only")}) == "only"
    assert not calls
    assert not cache.exists()
