"""What is told of waits when several threads watch and warn; PyTorch's two switches are stood in for."""

import threading
import warnings
from collections.abc import Callable

import pytest
import torch

from bertune.cuda.recording import CudaRecorder


class Switch:
    """PyTorch's mode of the whole process: operations that wait warn while it is on."""

    def __init__(self) -> None:
        self.mode: int | str = 0

    def turn(self, mode: int | str) -> None:
        self.mode = mode

    def wait(self) -> None:
        """An operation that waits for the device."""
        if self.mode:
            warnings.warn("called a synchronizing CUDA operation", stacklevel=2)


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Switch:
    made = Switch()
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: made.mode)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", made.turn)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return made


def in_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def recorder() -> CudaRecorder:
    return CudaRecorder(torch.device("cuda", 0))


def test_every_wait_is_told(switch: Switch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with recorder().watch() as waits:
            for _ in range(2):
                switch.wait()
    assert len(waits) == 2
    assert all("test_recording.py:" in wait for wait in waits)
    with recorder().watch() as waits:
        pass
    assert waits == []


def test_other_threads_waits_and_other_warnings_are_not_told_but_handed_on(switch: Switch) -> None:
    def other() -> None:
        switch.wait()
        warnings.warn("of another thread", stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with recorder().watch() as waits:
            in_thread(other)
            warnings.warn("of this thread", stacklevel=1)
    assert waits == []
    # Another thread's wait is told nobody: it would not have warned without this watch.
    assert [str(one.message) for one in caught] == ["of another thread", "of this thread"]


def test_waits_that_the_program_asked_for_are_handed_on(switch: Switch) -> None:
    switch.turn(1)
    with warnings.catch_warnings(record=True) as caught, recorder().watch() as waits:
        in_thread(switch.wait)
    assert waits == []
    assert len(caught) == 1
    assert switch.mode == 1


def test_two_threads_that_watch_leave_everything_as_it_was(switch: Switch) -> None:
    filters, show = list(warnings.filters), warnings.showwarning
    first_inside, second_inside, first_left = threading.Event(), threading.Event(), threading.Event()
    told: dict[str, list[str]] = {}

    def first() -> None:
        with recorder().watch() as told["first"]:
            first_inside.set()
            second_inside.wait(0.2)
        first_left.set()

    def second() -> None:
        first_inside.wait()
        with recorder().watch() as told["second"]:
            second_inside.set()
            switch.wait()
            first_left.wait()

    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert switch.mode == 0
    assert warnings.filters == filters
    assert warnings.showwarning is show
    assert (len(told["first"]), len(told["second"])) == (0, 1)


def test_an_error_inside_leaves_everything_as_it_was(switch: Switch) -> None:
    filters, show = list(warnings.filters), warnings.showwarning
    with pytest.raises(KeyError), recorder().watch():
        raise KeyError
    assert (switch.mode, warnings.filters, warnings.showwarning) == (0, filters, show)
    with recorder().watch():  # nothing is locked any more
        pass
