"""The order in which training sequences come, batch by batch, without an end."""

import random
from typing import Protocol

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
_BUFFER = 100
"""Records in the original's shuffle buffer."""


class Stream(Protocol):
    """Batches of training sequences, which run across the ends of epochs.

    Steps are asked for in order, from 0 or the step that a run goes on with; one may be asked for several times.
    """

    def rows(self, step: int) -> Rows:
        """Sequences of the batch of a step. Shape: (batch,)."""
        ...


class Shuffled:
    """Every epoch is a new permutation of all sequences, which seed and epoch decide; so a run can go on anywhere."""

    def __init__(self, sequences: int, batch_size: int, seed: int) -> None:
        self._sequences, self._batch_size, self._seed = sequences, batch_size, seed
        self._epochs: dict[int, Rows] = {}

    def rows(self, step: int) -> Rows:
        """Sequences of the batch of a step. Shape: (batch,)."""
        places = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, within = places // self._sequences, places % self._sequences
        parts = [self._epoch(int(epoch))[within[epochs == epoch]] for epoch in np.unique(epochs)]
        return np.concatenate(parts)

    def _epoch(self, epoch: int) -> Rows:
        if epoch not in self._epochs:
            self._epochs = {e: order for e, order in self._epochs.items() if e >= epoch - 1}
            self._epochs[epoch] = np.random.default_rng((self._seed, epoch)).permutation(self._sequences)
        return self._epochs[epoch]


class Buffered:
    """As in the original: the file's order, repeated, passes through a buffer of 100; the next is drawn from it."""

    def __init__(self, sequences: int, batch_size: int, seed: int, first: int = 0) -> None:
        """first: the step that the file begins with; the original begins afresh when a run goes on."""
        self._sequences, self._batch_size = sequences, batch_size
        self._random = random.Random(seed)
        self._buffer = [place % sequences for place in range(_BUFFER)]
        self._read = _BUFFER
        self._step, self._batch = first - 1, np.zeros(0, np.int64)

    def rows(self, step: int) -> Rows:
        """Sequences of the batch of a step. Shape: (batch,).

        Raises:
            ValueError: a step before the last one that was asked for.
        """
        if step < self._step:
            raise ValueError(f"step {step} comes before step {self._step}")
        while self._step < step:
            self._batch = np.array([self._draw() for _ in range(self._batch_size)], np.int64)
            self._step += 1
        return self._batch

    def _draw(self) -> int:
        place = self._random.randrange(_BUFFER)
        drawn = self._buffer[place]
        self._buffer[place] = self._read % self._sequences
        self._read += 1
        return drawn
