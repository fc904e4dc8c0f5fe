"""One item is made while the last is used: order, errors, stopping early, no thread left, no more than one ahead."""

import gc
import signal
import sys
import threading
import time
import weakref
from collections.abc import Iterable, Iterator

import pytest

from bertune.data import prefetch as ahead
from bertune.data.prefetch import in_chunks, prefetch

PATIENCE = 10.0
"""Seconds after which what does not happen never will."""


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def doubled(numbers: Iterable[int]) -> Iterator[int]:
    for number in numbers:
        yield 2 * number


def until(told: threading.Event) -> None:
    assert told.wait(PATIENCE)


def test_order_and_end() -> None:
    for count in (0, 1, 2, 100):
        assert list(prefetch(doubled, range(count))) == [2 * i for i in range(count)]


def test_items_that_count_as_false_are_no_end() -> None:
    assert list(prefetch(lambda source: iter(list(source)), [0, None, "", []])) == [0, None, "", []]


def test_nothing_is_read_before_the_first_is_asked_for() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        read.append(0)
        yield 0

    made = prefetch(doubled, source())
    assert read == []
    made.close()
    assert read == []


def test_source_and_walk_live_in_one_other_thread() -> None:
    seen: set[int] = set()

    def source() -> Iterator[int]:
        for i in range(20):
            seen.add(threading.get_ident())
            yield i

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            seen.add(threading.get_ident())
            yield number

    list(prefetch(walk, source()))
    assert len(seen) == 1
    assert threading.get_ident() not in seen


def test_the_next_is_made_while_the_last_is_used() -> None:
    begun = [threading.Event() for _ in range(5)]

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            begun[number].set()
            yield number

    for number in prefetch(walk, range(5)):
        if number < 4:
            until(begun[number + 1])


def test_no_more_than_one_is_made_ahead() -> None:
    made: list[int] = []

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            made.append(number)
            yield number

    for number in prefetch(walk, range(8)):
        deadline = time.monotonic() + 0.02
        while time.monotonic() < deadline:
            assert len(made) <= number + 2
            time.sleep(0.001)


def test_what_was_used_is_let_go() -> None:
    class Large:
        pass

    alive: weakref.WeakSet[Large] = weakref.WeakSet()

    def walk(numbers: Iterable[int]) -> Iterator[Large]:
        for _ in numbers:
            one = Large()
            alive.add(one)
            yield one
            del one

    most = 0
    for item in prefetch(walk, range(50)):
        time.sleep(0.001)
        most = max(most, len(alive))
        del item
    # The one in use, the one ahead, and for a moment the one that was used before.
    assert most <= 3
    gc.collect()
    assert not alive


@pytest.mark.parametrize("place", [0, 1, 2, 7])
@pytest.mark.parametrize("where", ["source", "walk"])
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
def test_an_error_comes_in_its_place(place: int, where: str, kind: type[BaseException]) -> None:
    def source() -> Iterator[int]:
        for i in range(9):
            if where == "source" and i == place:
                raise kind("wrong")
            yield i

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            if where == "walk" and number == place:
                raise kind("wrong")
            yield number

    got: list[int] = []
    with pytest.raises(kind, match="wrong") as error:  # noqa: PT012
        for item in prefetch(walk, source()):
            time.sleep(0.001)  # by now the next one has failed
            got.append(item)
    assert got == list(range(place))
    assert where in [entry.name for entry in error.traceback]


def test_the_same_error_as_without() -> None:
    """An error of the walk's own making is not changed, nor is another put around it."""
    failure = ValueError("row 7")

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        yield from numbers
        raise failure

    with pytest.raises(ValueError, match="row 7") as error:
        list(prefetch(walk, [1]))
    assert error.value is failure
    assert failure.__cause__ is None


@pytest.mark.parametrize("used", [0, 1, 3])
def test_stopping_early_reads_no_further(used: int) -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        i = 0
        while True:
            read.append(i)
            yield i
            i += 1

    made = prefetch(doubled, source())
    for _ in range(used):
        next(made)
    made.close()
    count = len(read)
    assert count <= used + 1
    time.sleep(0.01)
    assert len(read) == count
    assert list(made) == []


def test_stopping_in_the_middle_of_an_item() -> None:
    """A walk that takes a thousand of the source for one item ends at the next that it asks for."""
    read, began, closed = [], threading.Event(), threading.Event()

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        yield 0
        for number in numbers:
            began.set()
            assert number == 0, "asked for more after the end"
            until(closed)
        yield 1

    def source() -> Iterator[int]:
        for i in range(1000):
            read.append(i)
            yield i

    made = prefetch(walk, source())
    next(made)
    until(began)
    threading.Timer(0.02, closed.set).start()
    made.close()
    assert closed.is_set()  # it was waited for
    assert read == [0, 1]
    time.sleep(0.02)


def test_a_source_that_is_left_is_closed() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    for item in prefetch(doubled, source()):
        if item == 6:
            break
    gc.collect()
    until(closed)


def test_a_caller_that_fails_gets_its_own_error() -> None:
    def use() -> None:
        for item in prefetch(doubled, range(1000)):
            if item == 6:
                raise LookupError("the caller's")

    with pytest.raises(LookupError, match="the caller's"):
        use()


def test_an_error_behind_what_the_caller_took_is_not_told() -> None:
    def source() -> Iterator[int]:
        yield 0
        raise ValueError("nobody asked")

    made = prefetch(doubled, source())
    assert next(made) == 0
    time.sleep(0.01)
    made.close()


@pytest.mark.skipif(sys.platform == "win32", reason="sends itself a signal")
def test_an_interrupt_while_waiting_ends_it() -> None:
    began, release = threading.Event(), threading.Event()

    def walk(numbers: Iterable[int]) -> Iterator[int]:
        for number in numbers:
            if number == 2:
                began.set()
                until(release)
            yield number

    def interrupt() -> None:
        until(began)

        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.02)
        release.set()

    helper = threading.Thread(target=interrupt)
    helper.start()
    got = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for item in prefetch(walk, range(1000)):
            got.append(item)
    helper.join()
    assert got == [0, 1]


def test_two_at_once_do_not_disturb_each_other() -> None:
    pairs = zip(prefetch(doubled, range(50)), prefetch(doubled, range(50, 100)), strict=True)
    assert list(pairs) == [(2 * i, 2 * i + 100) for i in range(50)]


def test_one_within_another() -> None:
    def walk(numbers: Iterable[int]) -> Iterator[int]:
        yield from prefetch(doubled, numbers)

    assert list(prefetch(walk, range(20))) == [2 * i for i in range(20)]


@pytest.mark.parametrize("in_thread", [False, True])
def test_chunks(in_thread: bool) -> None:
    for count in range(10):
        found = list(in_chunks(sum, iter(range(count)), 3, ahead=in_thread))
        assert [i for chunk, _ in found for i in chunk] == list(range(count))
        assert [len(chunk) for chunk, _ in found] == [3] * (count // 3) + [count % 3] * (count % 3 > 0)
        assert all(made == sum(chunk) for chunk, made in found)


@pytest.mark.parametrize("in_thread", [False, True])
def test_a_source_that_fails_within_a_chunk(in_thread: bool) -> None:
    def source() -> Iterator[int]:
        yield from range(7)
        raise ValueError("row 7")

    got: list[int] = []
    with pytest.raises(ValueError, match="row 7"):  # noqa: PT012
        for chunk, _ in in_chunks(sum, source(), 3, ahead=in_thread):
            got += chunk
    assert got == [0, 1, 2, 3, 4, 5]


def test_a_single_chunk_needs_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(ahead, "ThreadPoolExecutor")
    assert [made for _, made in in_chunks(sum, range(2), 3, ahead=True)] == [1]


def test_without_a_thread_no_more_is_read_than_a_chunk() -> None:
    read: list[int] = []

    def source() -> Iterator[int]:
        for i in range(100):
            read.append(i)
            yield i

    chunks = in_chunks(sum, source(), 3, ahead=False)
    assert next(chunks) == ([0, 1, 2], 3)
    assert read == [0, 1, 2]


def test_chunks_that_are_left_leave_no_thread() -> None:
    chunks = in_chunks(sum, range(100), 3, ahead=True)
    assert next(chunks)[1] == 3
    chunks.close()
