"""What two quick methods say of every row's label: help to find labels that are wrong, beside the model's own answers.

A fine-tuned model and logistic regression on the pretrained encoder's vectors, and on words, err on different rows; on
a wrong label all three disagree with it. `python -m benchmarks.report suspects` measures what that brings.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.embedding import Embedder
from bertune.errors import InputError
from bertune.tasks.held_out import fold_numbers
from bertune.tasks.row_metrics import Floats
from bertune.tasks.shared.baselines import word_features
from bertune.tasks.shared.texts import Texts

logger = logging.getLogger(__name__)

MOST_LEARNT = 5000
"""Rows that the methods learn from, of more a sample."""
MOST_LABELS = 200
"""Labels from which on the methods take too long."""
PARTS = 5
"""Of rows that are judged by one another: each part by what was learnt from the others."""
LEAST = 50
"""Rows that the methods need."""
MINILM = "minilm"
_LONGEST = 128
"""Tokens that are read for a vector."""

Numbers = npt.NDArray[np.int64]
Columns = Callable[[Sequence[Texts], Sequence[Texts]], tuple[Any, Any]]


def opinions(
    rows: Sequence[Any], labels: Sequence[str], record: Mapping[str, Any], train: Sequence[Any] | None
) -> list[Floats]:
    """Probabilities of every label for every row, by each method; none where rows are no texts, too few, or too many
    labels.

    Args:
        rows: labelled texts or pairs, to be judged.
        labels: in the order of the columns.
        record: the model's bertune.json, which names the pretrained encoder.
        train: what the methods learn from, but for rows that are among those to be judged; None, or too few: each part
            of the rows is judged by what was learnt from the others.

    Returns: Shape: (rows, labels) each.
    """
    if len(labels) > MOST_LABELS or not rows or not isinstance(getattr(rows[0], "text", None), str):
        return []
    judged = {(one.text, one.pair) for one in rows}
    learnt: Sequence[Any] = [one for one in train or () if (one.text, one.pair) not in judged]
    learnt = _sample(learnt) if len(learnt) >= LEAST else rows
    if len(learnt) < LEAST:
        return []
    number = {label: i for i, label in enumerate(labels)}
    given = np.array([number[str(one.label)] for one in learnt], np.int64)
    methods: list[Columns] = [word_features]
    vectors = _vectors_of(record)
    if vectors is not None:
        methods.append(vectors)
    found = []
    for method in methods:
        try:
            found.append(_judged(method, rows, learnt, given, len(labels)))
        except ValueError as error:  # scikit-learn's word for data that teach nothing, such as texts without words
            logger.info("labels that may be wrong: a method cannot learn from these rows (%s)", error)
    return found


def _judged(method: Columns, rows: Sequence[Any], learnt: Sequence[Any], given: Numbers, labels: int) -> Floats:
    seen, unseen = method(learnt, rows)
    if learnt is not rows:
        return _probabilities(seen, given, unseen, labels)
    result = np.zeros((len(rows), labels))
    part = fold_numbers(rows, PARTS)
    for index in np.unique(part):
        others, own = np.flatnonzero(part != index), np.flatnonzero(part == index)
        if len(others) > MOST_LEARNT:
            others = others[np.random.default_rng(0).permutation(len(others))[:MOST_LEARNT]]
        result[own] = _probabilities(seen[others], given[others], unseen[own], labels)
    return result


def _probabilities(seen: Any, given: Numbers, unseen: Any, labels: int) -> Floats:
    """By logistic regression. Shape: seen (learnt, columns), given (learnt,), unseen (rows, columns)."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(given)) < 2:
        raise ValueError("one label alone")
    model = LogisticRegression(C=10.0, max_iter=100, tol=1e-3).fit(seen, given)
    result = np.zeros((unseen.shape[0], labels))
    result[:, model.classes_] = model.predict_proba(unseen)
    return result


def _sample(train: Sequence[Any]) -> Sequence[Any]:
    if len(train) <= MOST_LEARNT:
        return train
    return [train[i] for i in np.sort(np.random.default_rng(0).permutation(len(train))[:MOST_LEARNT])]


def _vectors_of(record: Mapping[str, Any]) -> Columns | None:
    """Vectors by the pretrained encoder; None where it is not on this machine any more."""
    source = str(record.get("encoder") or "")
    if source != MINILM and not Path(source).exists():
        logger.info("labels that may be wrong: judged without the vectors of %s, which is not there", source)
        return None
    try:
        embed = Embedder(source)
    except InputError as error:
        logger.info("labels that may be wrong: judged without vectors of the pretrained encoder (%s)", error)
        return None
    longest = min(_LONGEST, embed.max_seq_length)
    embed.max_seq_length = longest

    def columns(learnt: Sequence[Texts], rows: Sequence[Texts]) -> tuple[Any, Any]:
        seen = _columns(embed, learnt)
        return seen, seen if learnt is rows else _columns(embed, rows)

    return columns


def _columns(embed: Embedder, rows: Sequence[Texts]) -> Floats:
    """A text's vector; of a pair both, their distance and their product. Shape: (rows, columns)."""
    first = embed([one.text for one in rows]).astype(np.float64)
    if not any(one.pair for one in rows):
        return first
    second = embed([one.pair or "" for one in rows]).astype(np.float64)
    return np.concatenate([first, second, np.abs(first - second), first * second], 1)
