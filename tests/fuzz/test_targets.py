"""Any bytes, and sound bytes spoilt, give every reader a result or the error that it announces, and soon."""

import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, run

EXAMPLES, MANY = 60, 2000
SECONDS = 20
"""No reader takes so long over a few hundred bytes, on a busy machine either."""


@st.composite
def spoilt(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """Sound bytes with some of them changed, left out, put in or doubled."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["change", "cut", "leave out", "put in", "double"]))
        if kind == "change" and at < len(data):
            data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, data[at] ^ 1, data[at] ^ 0x40]))
        elif kind == "cut":
            del data[at:]
        elif kind == "leave out":
            del data[at : at + draw(st.integers(1, 8))]
        elif kind == "put in":
            data[at:at] = draw(st.binary(max_size=8) | st.sampled_from([b"\0", b"\xff" * 9, b"\n", b'"', b"[" * 50]))
        else:
            data[at:at] = data[at : at + draw(st.integers(1, 64))]
    return bytes(data)


@contextmanager
def in_time() -> Iterator[None]:
    """An error where the time runs out."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"no end after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check(name: str, folder: Path, examples: int) -> None:
    (folder / "seeds").mkdir()
    seeds = TARGETS[name].seeds(folder / "seeds")

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.one_of(st.binary(max_size=200), spoilt(seeds), spoilt(seeds)))
    def readers_keep_their_word(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=folder) as empty, in_time():
            run(name, data, Path(empty))

    readers_keep_their_word()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, EXAMPLES)


@pytest.mark.torture
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_at_length(name: str, tmp_path: Path) -> None:
    check(name, tmp_path, MANY)


@pytest.mark.parametrize("name", TARGETS)
def test_sound_bytes_are_read(name: str, tmp_path: Path) -> None:
    """Else the spoilt ones would tell nothing."""
    (tmp_path / "seeds").mkdir()
    told = []
    for number, seed in enumerate(TARGETS[name].seeds(tmp_path / "seeds")):
        (tmp_path / str(number)).mkdir()
        try:
            TARGETS[name].read(seed, tmp_path / str(number))
            return
        except Exception as error:
            told.append(repr(error))
    pytest.fail("\n".join(told))
