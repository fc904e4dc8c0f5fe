"""Features that a thread makes while training already reads the first of them."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bertune.data.features import Column, Features
from bertune.errors import FaultError
from bertune.ragged import Ragged

logger = logging.getLogger(__name__)

BLOCK = 1024
"""Examples made at a time, about: a twentieth of a second's work."""
_PATIENCE = 5.0
"""Seconds that a run which is broken off waits for the thread."""

Places = npt.NDArray[np.int64]
Make = Callable[[Places], Features]
"""Places of examples → their features, one sequence each, whatever the other examples are."""
Targets = Mapping[str, Column]
NumberT = TypeVar("NumberT", bound=np.generic)


class UpcomingFeatures:
    """Features of examples that make one sequence each, made in the order in which training asks for them.

    All that it hands out is equal to features made in one go.
    """

    def __init__(
        self,
        make: Make,
        examples: int,
        *,
        targets: Callable[[], Targets],
        finished: Callable[[Features], None],
        entries: int,
    ) -> None:
        """Nothing is made yet.

        Args:
            make: makes some of them; called in a thread.
            examples: how many there are.
            targets: those of all, which take no tokenizing.
            finished: told of all features once they are there, in whatever thread made the last of them.
            entries: numbers in all of them, about (see `data.resident.entries_of`).
        """
        self._make, self._examples, self._targets, self._finished = make, examples, targets, finished
        self.entries = entries
        self._changed = threading.Condition()
        self._blocks: list[Features] = []
        self._place = np.zeros(0, np.int64)
        self._block = BLOCK
        self._whole: Features | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stopped = self._hurried = False

    def __len__(self) -> int:
        return self._examples

    @contextmanager
    def begun(self, batches: Sequence[Places]) -> Iterator[None]:
        """While the block runs, a thread makes the features; what it has not finished by then is dropped.

        Args:
            batches: places of examples in the order in which they will be asked for, each once at most.
        """
        try:
            if self._whole is None:
                self._begin(batches)
            yield
        except BaseException:
            self._hurried = True
            self._stop(_PATIENCE)
            raise
        self._stop(None)

    def of(self, places: Places) -> tuple[Features, Places]:
        """Features among which those of these examples are, and where they stand there; waits for them.

        Raises:
            Exception: whatever making them raised.
            FaultError: there was no memory to make them.
        """
        numbers = np.unique(self._place[places] // self._block) if self._thread is not None else places[:0]
        if len(numbers) == 1:
            number = int(numbers[0])
            self._wait(lambda: len(self._blocks) > number)
            with self._changed:
                if self._whole is None:
                    return self._blocks[number], self._place[places] % self._block
        made = self.made()
        return (self.whole() if made is None else made), places

    def made(self) -> Features | None:
        """All of them, if they are there by now."""
        with self._changed:
            return self._whole

    def targets(self) -> Targets:
        """The targets of all; waits for nothing."""
        made = self.made()
        return self._targets() if made is None else made.targets

    def whole(self) -> Features:
        """All of them, in the examples' order; waits for a thread that is at it, or makes them.

        Raises:
            Exception: whatever making them raised.
            FaultError: there was no memory to make them.
        """
        if self._thread is not None:
            self._wait(lambda: False)
        if self._whole is None:
            self._whole = self._make(np.arange(self._examples))
            self._finished(self._whole)
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
        self._blocks, self._error = [], None
        self._stopped = self._hurried = False
        self._thread = threading.Thread(target=self._work, args=(order,), name="features", daemon=True)
        self._thread.start()

    def _stop(self, patience: float | None) -> None:
        """End the thread after the block, or the writing, that it is at."""
        if self._thread is not None:
            self._stopped = True
            self._thread.join(patience)
            self._thread, self._blocks = None, []

    def _work(self, order: Places) -> None:
        try:
            whole = self._made_in(order)
        except BaseException as error:
            self._error = error
        else:
            with self._changed:  # before it is told of: training need not wait for a disk
                self._whole, self._blocks = whole, []
        finally:
            with self._changed:
                self._changed.notify_all()
        if self._whole is not None and not self._hurried:
            try:
                self._finished(self._whole)
            except Exception:
                logger.warning("features are not kept for the next run", exc_info=True)

    def _made_in(self, order: Places) -> Features | None:
        """All of them, block by block in this order; None where it is stopped midway."""
        blocks = self._blocks
        for start in range(0, len(order), self._block):
            places = order[start : start + self._block]
            made = self._make(places)
            if len(made) != len(places):
                raise ValueError(f"{len(made)} sequences of {len(places)} examples, which should make one each")
            with self._changed:
                blocks.append(made)
                self._changed.notify_all()
            if self._stopped:
                return None
        return _in_their_places(blocks, [order[i : i + self._block] for i in range(0, len(order), self._block)])

    def _wait(self, there: Callable[[], bool]) -> None:
        with self._changed:
            while not there() and self._whole is None and self._error is None:
                if self._thread is None or not self._thread.is_alive():
                    break
                self._changed.wait(1.0)
            error = None if there() else self._error
        if isinstance(error, MemoryError):  # told apart from an update's, which smaller parts would help
            raise FaultError("training: no memory to tokenize the training data; end other programs or split the file")
        if error is not None:
            raise error


def _in_their_places(blocks: Sequence[Features], places: Sequence[Places]) -> Features:
    """Blocks of one sequence an example, put together in the examples' order."""
    first = blocks[0]
    ids = _ragged([block.input_ids for block in blocks], places)
    return Features(
        ids,
        _ragged([block.segment_ids for block in blocks], places),
        np.arange(len(ids), dtype=np.int32),
        {name: _column([block.targets[name] for block in blocks], places) for name in first.targets},
        _array([block.cut for block in blocks], places),
        {name: _column([block.extras[name] for block in blocks], places) for name in first.extras},
        first.together,
    )


def _column(parts: Sequence[Column], places: Sequence[Places]) -> Column:
    ragged = [part for part in parts if isinstance(part, Ragged)]
    if ragged:
        return _ragged(ragged, places)
    plain: list[npt.NDArray[Any]] = [part for part in parts if not isinstance(part, Ragged)]
    return _array(plain, places)


def _array(parts: Sequence[npt.NDArray[NumberT]], places: Sequence[Places]) -> npt.NDArray[NumberT]:
    whole = np.empty((sum(map(len, places)), *parts[0].shape[1:]), parts[0].dtype)
    for part, rows in zip(parts, places, strict=True):
        whole[rows] = part
    return whole


def _ragged(parts: Sequence[Ragged], places: Sequence[Places]) -> Ragged:
    lengths = np.empty(sum(map(len, places)), np.int64)
    for part, rows in zip(parts, places, strict=True):
        lengths[rows] = part.lengths
    whole = Ragged.from_lengths(np.empty(int(lengths.sum()), parts[0].values.dtype), lengths)
    for part, rows in zip(parts, places, strict=True):
        within = np.arange(len(part.values)) + np.repeat(whole.offsets[rows] - part.offsets[:-1], part.lengths)
        whole.values[within] = part.values
    return whole
