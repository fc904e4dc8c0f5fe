"""From logits at words' first pieces to entities: the best sequence of tags that the scheme allows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bertune.tasks.tagging.schemes import legal_moves

Probabilities = npt.NDArray[np.float64]
_SENTENCES_AT_A_TIME = 512
_NEVER = -1e9


def best_tags(
    probabilities: Sequence[Probabilities], labels: Sequence[str], scheme: str
) -> list[npt.NDArray[np.int64]]:
    """For every sentence the legal sequence of labels whose product of probabilities is the greatest (Viterbi, 1967).

    Args:
        probabilities: Shape: (words, labels) each.
        labels: names of the labels, of `scheme` (bio, bioes, io).
        scheme: decides which label may follow which.

    Returns: index of every word's label. Shape: (words,) each.
    """
    start, moves, end = (np.where(legal, 0.0, _NEVER) for legal in legal_moves(labels, scheme))
    lengths = np.array([len(one) for one in probabilities], np.int64)
    order = np.argsort(-lengths, kind="stable")
    found: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)] * len(probabilities)
    for begin in range(0, len(order), _SENTENCES_AT_A_TIME):
        chosen = order[begin : begin + _SENTENCES_AT_A_TIME]
        chosen = chosen[lengths[chosen] > 0]
        if len(chosen):
            tags = _viterbi([probabilities[i] for i in chosen], start, moves, end)
            for i, path in zip(chosen, tags, strict=True):
                found[i] = path
    return found


def _viterbi(
    probabilities: Sequence[Probabilities], start: Probabilities, moves: Probabilities, end: Probabilities
) -> list[npt.NDArray[np.int64]]:
    """Sentences side by side, longest first; at every word those that are that long. Shape of `moves`: (from, to)."""
    lengths = np.array([len(one) for one in probabilities])
    longest, labels = int(lengths[0]), len(start)
    scores = np.zeros((len(probabilities), longest, labels))
    for row, one in enumerate(probabilities):
        scores[row, : len(one)] = np.log(np.maximum(one, 1e-30))
    back = np.zeros((len(probabilities), longest, labels), np.int64)
    best = scores[:, 0] + start
    for at in range(1, longest):
        active = int((lengths > at).sum())
        ways = best[:active, :, None] + moves
        back[:active, at] = ways.argmax(1)
        best[:active] = ways.max(1) + scores[:active, at]
    tag = (best + end).argmax(1)
    paths = np.zeros((len(probabilities), longest), np.int64)
    for at in range(longest - 1, -1, -1):
        active = int((lengths > at).sum())
        rows = np.arange(active)
        paths[:active, at] = tag[:active]
        tag[:active] = back[rows, at, tag[:active]]
    return [path[:length] for path, length in zip(paths, lengths, strict=True)]
