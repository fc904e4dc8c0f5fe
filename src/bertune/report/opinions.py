"""What two quick methods say of every row's label: help to find labels that are wrong, beside the model's own answers.

A fine-tuned model and logistic regression on the pretrained encoder's vectors, and on words, err on different rows; on
a wrong label all three disagree with it. `python -m benchmarks.report suspects` measures what that brings.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bertune.embedding import Embedder
from bertune.encoder import int8
from bertune.errors import InputError
from bertune.report.figures import combined
from bertune.tasks.held_out import fold_numbers
from bertune.tasks.row_metrics import Floats
from bertune.tasks.shared.baselines import word_features
from bertune.tasks.shared.texts import Texts

logger = logging.getLogger(__name__)

MOST_LEARNT = 4000
"""Rows that the methods learn from, of more a sample."""
MOST_JUDGED = 2000
"""Rows that the methods judge, of more those whose own label the model finds least probable."""
MOST_LABELS = 200
"""Labels from which on the methods take too long."""
MOST_LABELS_OF_WORDS = 50
"""The same of words, which are many columns."""
PARTS = 5
"""Of rows that are judged by one another: each part by what was learnt from the others."""
LEAST = 50
"""Rows that the methods need."""
MINILM = "minilm"
_LONGEST = 128
"""Tokens that are read for a vector."""

Numbers = npt.NDArray[np.int64]
Columns = Callable[[Sequence[Texts], Sequence[Texts]], tuple[Any, Any]]


@dataclass(frozen=True)
class Judged:
    """Rows whose labels are judged.

    rows: labelled texts or pairs; those of other tasks are judged by the model alone.
    given: numbers of their labels. Shape: (rows,).
    labels: in the order of the columns of probabilities.
    """

    rows: Sequence[Any]
    given: Numbers
    labels: Sequence[str]


def judged_together(
    judged: Judged, probabilities: Floats, record: Mapping[str, Any], train: Sequence[Any] | None
) -> Floats:
    """Probabilities by the model and the quick methods together; by the model alone where the methods have no say.

    Args:
        judged: rows.
        probabilities: the model's. Shape: (rows, labels).
        record: the model's bertune.json, which names the pretrained encoder.
        train: what the methods learn from; None: from the rows themselves.

    Returns: Shape: (rows, labels).
    """
    own = probabilities[np.arange(len(judged.rows)), judged.given]
    at = np.sort(np.argsort(own, kind="stable")[:MOST_JUDGED])
    others = opinions(judged, at, record, train)
    if not others:
        return probabilities
    together = probabilities.copy()
    together[at] = combined([probabilities[at], *others])
    return together


def opinions(judged: Judged, at: Numbers, record: Mapping[str, Any], train: Sequence[Any] | None) -> list[Floats]:
    """Probabilities of every label by each method; none where rows are no texts, too few, or too many labels.

    Args:
        judged: rows.
        at: which of them are asked for. Shape: (chosen,).
        record: the model's bertune.json.
        train: what the methods learn from, but for texts that are among those to be judged; None, or too few: each part
            of the rows is judged by what was learnt from the others.

    Returns: Shape: (chosen, labels) each.
    """
    rows, labels = judged.rows, judged.labels
    if len(labels) > MOST_LABELS or not rows or not isinstance(getattr(rows[0], "text", None), str):
        return []
    known = {(one.text, one.pair) for one in rows}
    learnt: Sequence[Any] = [one for one in train or () if (one.text, one.pair) not in known]
    part: Numbers | None = None
    number = {label: i for i, label in enumerate(labels)}
    if len(learnt) >= LEAST:
        learnt = [learnt[i] for i in _sample(len(learnt))]
        given = np.array([number[str(one.label)] for one in learnt], np.int64)
    elif len(rows) >= LEAST:
        part, chosen = fold_numbers(rows, PARTS), _sample(len(rows))
        learnt, given = [rows[i] for i in chosen], judged.given[chosen]
    else:
        return []
    possible = [word_features if len(labels) <= MOST_LABELS_OF_WORDS else None, _vectors_of(record)]
    methods = [one for one in possible if one is not None]
    found = []
    for method in methods:
        try:
            seen, unseen = method(learnt, [rows[i] for i in at])
            if part is None:
                found.append(_probabilities(seen, given, unseen, len(labels)))
            else:
                found.append(_by_parts(seen, given, unseen, (part[chosen], part[at], len(labels))))
        except ValueError as error:  # scikit-learn's word for data that teach nothing, such as texts without words
            logger.info("labels that may be wrong: a method cannot learn from these rows (%s)", error)
    return found


def _by_parts(seen: Any, given: Numbers, unseen: Any, parts: tuple[Numbers, Numbers, int]) -> Floats:
    """Every part by what was learnt from the others. parts: of what is learnt, of what is judged; labels."""
    of_seen, of_unseen, labels = parts
    result = np.zeros((len(of_unseen), labels))
    for index in np.unique(of_unseen):
        others, own = np.flatnonzero(of_seen != index), np.flatnonzero(of_unseen == index)
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


def _sample(rows: int) -> Numbers:
    """Numbers of rows, at most MOST_LEARNT. Shape: (chosen,)."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:MOST_LEARNT])


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
    embed.max_seq_length = min(_LONGEST, embed.max_seq_length)
    _quicken(embed)

    def columns(learnt: Sequence[Texts], rows: Sequence[Texts]) -> tuple[Any, Any]:
        both = _columns(embed, [*learnt, *rows])
        return both[: len(learnt)], both[len(learnt) :]

    return columns


def _quicken(embed: Embedder) -> None:
    """Vectors in 8 bits where the processor has such products but none of 16 bits: twice as fast, and near enough here.

    Of the sample intents' flipped labels these vectors find as many as those in float32 (benchmarks/LOG.md).
    """
    encoder, device = embed.network.encoder, embed.network.device
    if device.type != "cpu" or encoder.compute_dtype != torch.float32:
        return
    if int8.has_dot_products() and int8.supported():
        int8.quantize(encoder, device)


def _columns(embed: Embedder, rows: Sequence[Texts]) -> Floats:
    """A text's vector; of a pair both, their distance and their product. Shape: (rows, columns)."""
    first = embed([one.text for one in rows]).astype(np.float64)
    if not any(one.pair for one in rows):
        return first
    second = embed([one.pair or "" for one in rows]).astype(np.float64)
    return np.concatenate([first, second, np.abs(first - second), first * second], 1)
