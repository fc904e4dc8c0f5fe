"""Which sequences go into which batch."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]


def shuffled_batches(sequences: int, batch_size: int, *, seed: int, epoch: int) -> list[Rows]:
    """One epoch in an order that `seed` and `epoch` alone decide; every sequence once, the last batch may be smaller.

    Packed batches carry no padding, so sequences need no sorting by length and every batch is a fair sample.

    Raises:
        ValueError: a batch of no sequence.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size {batch_size}: must be at least 1")
    order = np.random.default_rng((seed, epoch)).permutation(sequences)
    return [order[start : start + batch_size] for start in range(0, sequences, batch_size)]


def sorted_batches(
    lengths: npt.NDArray[np.int64], *, max_tokens: int, max_sequences: int, padded: bool = False
) -> Iterator[Rows]:
    """Sequences of similar length together, longest first, up to a number of tokens and of sequences a batch.

    padded: count what a batch padded to its longest sequence holds, not real tokens alone.
    A single sequence longer than `max_tokens` makes a batch of its own.

    Raises:
        ValueError: batches of no sequence.
    """
    if max_sequences < 1:
        raise ValueError(f"max_sequences {max_sequences}: must be at least 1")
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        tokens = 0
        end = start
        while end < len(order) and end - start < max_sequences:
            tokens = tokens + int(lengths[order[end]]) if not padded else int(lengths[order[start]]) * (end + 1 - start)
            if tokens > max_tokens and end > start:
                break
            end += 1
        yield order[start:end]
        start = end
