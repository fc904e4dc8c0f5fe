"""Making the next item, or what is made of the next chunk of items, while the last one is used."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

SourceT = TypeVar("SourceT")
MadeT = TypeVar("MadeT")


class _Stopped(BaseException):
    """Ends the walk where it asks for more; only ever seen in the thread."""


def prefetch(
    walk: Callable[[Iterable[SourceT]], Iterator[MadeT]], source: Iterable[SourceT]
) -> Generator[MadeT, None, None]:
    """What a walk over the source gives, in order, made in a thread: the next item while the caller uses the last.

    No more than one is made ahead. An error comes in place of the item that it kept from being made. When the caller
    closes this early, or is interrupted, the walk ends as soon as it asks the source for more, and is waited for.

    Args:
        walk: goes through the source, an item at a time, in the thread.
        source: read in the thread alone.
    """
    stopped = threading.Event()

    def until_stopped() -> Iterator[SourceT]:
        for item in source:
            if stopped.is_set():
                raise _Stopped
            yield item

    made = walk(until_stopped())
    with ThreadPoolExecutor(1, "bertune-ahead") as thread:
        try:
            coming = thread.submit(_next_one, made)
            while item := coming.result():
                coming = thread.submit(_next_one, made)
                yield item[0]
        finally:
            stopped.set()


def in_chunks(
    make: Callable[[list[SourceT]], MadeT], source: Iterable[SourceT], size: int, *, ahead: bool
) -> Generator[tuple[list[SourceT], MadeT], None, None]:
    """So many of the source at a time (at the end fewer), with what is made of them.

    ahead: read and make the next chunk in a thread. The first is read without; if it is all, none is needed.
    """

    def walk(items: Iterable[SourceT]) -> Generator[tuple[list[SourceT], MadeT], None, None]:
        rest = iter(items)
        while chunk := list(islice(rest, size)):
            yield chunk, make(chunk)

    if not ahead:
        yield from walk(source)
        return
    rest = iter(source)
    first = list(islice(rest, size))
    yield from prefetch(walk, chain(first, rest)) if len(first) == size else walk(first)


def _next_one(made: Iterator[MadeT]) -> list[MadeT]:
    """One item, or none at the end."""
    return list(islice(made, 1))
