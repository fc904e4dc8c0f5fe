"""Features that a thread makes while training already reads the first of them."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from bertune.data.features import Column, Features
from bertune.data.ragged import Ragged
from bertune.data.subsets import of_examples

logger = logging.getLogger(__name__)

BLOCK = 4096
"""Examples made at a time, about: a fifth of a second's work."""

Places = npt.NDArray[np.int64]
Make = Callable[[Places], Features]
"""Places of examples → their features, one sequence each, whatever the other examples are."""


class UpcomingFeatures:
    """Features of examples that make one sequence each, made in the order in which training asks for them.

    All that it hands out is equal to features made in one go.
    """

    def __init__(self, make: Make, examples: int, finished: Callable[[Features], None]) -> None:
        """Nothing is made yet.

        Args:
            make: makes some of them; called in a thread.
            examples: how many there are.
            finished: told of all features once they are there, in whatever thread made the last of them.
        """
        self._make, self._examples, self._finished = make, examples, finished
        self._changed = threading.Condition()
        self._blocks: list[Features] = []
        self._place = np.zeros(0, np.int64)
        self._block = BLOCK
        self._whole: Features | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def __len__(self) -> int:
        return self._examples

    @contextmanager
    def begun(self, batches: Sequence[Places]) -> Iterator[None]:
        """While the block runs, a thread makes the features; what it has not finished by then is dropped.

        Args:
            batches: places of examples in the order in which they will be asked for, each once at most.
        """
        if self._whole is None:
            self._begin(batches)
        try:
            yield
        finally:
            self._stop()

    def of(self, places: Places) -> tuple[Features, Places]:
        """Features among which those of these examples are, and where they stand there; waits for them.

        Raises:
            Exception: whatever making them raised.
        """
        if self._thread is not None and self._whole is None:
            numbers = self._place[places] // self._block
            number = int(numbers[0])
            if np.all(numbers == number):
                self._wait(lambda: len(self._blocks) > number)
                with self._changed:
                    if self._whole is None:
                        return self._blocks[number], self._place[places] % self._block
        return self.whole(), places

    def made(self) -> Features | None:
        """All of them, if they are there by now."""
        with self._changed:
            return self._whole

    def whole(self) -> Features:
        """All of them, in the examples' order; waits for a thread that is at it, or makes them.

        Raises:
            Exception: whatever making them raised.
        """
        if self._thread is not None:
            self._wait(lambda: False)
        if self._whole is None:
            whole = self._make(np.arange(self._examples))
            self._finished(whole)
            self._whole = whole
        return self._whole

    def _begin(self, batches: Sequence[Places]) -> None:
        order = np.concatenate([*batches, np.zeros(0, np.int64)])
        asked = np.zeros(self._examples, np.bool_)
        asked[order] = True
        order = np.concatenate([order, np.flatnonzero(~asked)])
        self._place = np.empty(self._examples, np.int64)
        self._place[order] = np.arange(self._examples)
        full = max((len(batch) for batch in batches), default=1)
        self._block = -(-BLOCK // full) * full  # a batch never lies in two blocks
        self._blocks, self._error, self._stopped = [], None, False
        self._thread = threading.Thread(target=self._work, args=(order,), name="features", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        """End the thread, after the block that it is at."""
        if self._thread is not None:
            self._stopped = True
            self._thread.join()
            self._thread, self._blocks = None, []

    def _work(self, order: Places) -> None:
        try:
            for start in range(0, len(order), self._block):
                places = order[start : start + self._block]
                made = self._make(places)
                if len(made) != len(places):
                    raise ValueError(f"{len(made)} sequences of {len(places)} examples, which should make one each")
                with self._changed:
                    self._blocks.append(made)
                    self._changed.notify_all()
                if self._stopped:
                    return
            whole, _ = of_examples(_end_to_end(self._blocks), self._place)
            self._finished(whole)
            with self._changed:
                self._whole, self._blocks = whole, []
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._changed.notify_all()

    def _wait(self, there: Callable[[], bool]) -> None:
        thread = self._thread
        with self._changed:
            while not there() and self._whole is None and self._error is None and thread is not None:
                if not thread.is_alive():
                    break
                self._changed.wait(1.0)
            if self._error is not None and not there():
                raise self._error


def _end_to_end(blocks: Sequence[Features]) -> Features:
    """Blocks of one sequence an example as one, numbered through."""
    first = blocks[0]
    return Features(
        _joined([block.input_ids for block in blocks]),
        _joined([block.segment_ids for block in blocks]),
        np.arange(sum(map(len, blocks)), dtype=np.int32),
        {name: _column([block.targets[name] for block in blocks]) for name in first.targets},
        np.concatenate([block.cut for block in blocks]),
        {name: _column([block.extras[name] for block in blocks]) for name in first.extras},
        first.together,
    )


def _column(parts: Sequence[Column]) -> Column:
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if ragged:
        return _joined(ragged)
    return np.concatenate([part for part in parts if not isinstance(part, Ragged)])


def _joined(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([part.lengths for part in parts])
    return Ragged.from_lengths(np.concatenate([part.values for part in parts]), lengths)
