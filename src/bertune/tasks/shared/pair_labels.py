"""Labels of pairs of texts: what they are, and how well cosines follow them.

Sources of the losses that follow from them: Hadsell, Chopra & LeCun, 2006 (contrastive loss), and Reimers & Gurevych,
2019 (regression of cosines), both as sentence-transformers has them.
"""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from bertune.data.columns import label_text
from bertune.errors import InputError
from bertune.tasks.label_forms import flag_of
from bertune.tasks.row_metrics import Floats, RowMetrics, ratio
from bertune.tasks.shared.metrics import number_rows

PairLoss = Literal["ranking", "contrastive", "cosine"]


def pair_label(value: object) -> float | None:
    """A pair's label as a number; None where there is none.

    Raises:
        InputError: neither a number nor true/false or yes/no.
    """
    text = label_text(value)
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        try:
            return float(flag_of(text))
        except InputError:
            raise InputError(
                f"{text!r} is not a label of a pair for embeddings: 0 and 1 (do not belong together, belong together) "
                "or a similarity score; --pair-loss ranking takes every row for a pair that belongs together"
            ) from None
    if not np.isfinite(number):
        raise InputError(f"{text!r} is not a finite number")
    return number


def loss_for(labels: Sequence[float | None], wanted: str) -> tuple[PairLoss, float]:
    """The loss that fits the labels, and what a score is divided by.

    Args:
        labels: of all pairs; None everywhere where there are no labels.
        wanted: `--pair-loss`.

    Raises:
        InputError: labels from which the loss learns nothing, or none where it needs them.
    """
    known = np.array([label for label in labels if label is not None], np.float64)
    if wanted == "ranking" or (wanted == "auto" and not len(known)):
        return "ranking", 1.0
    if not len(known):
        raise InputError(f"--pair-loss {wanted} needs a label for every pair; name its column with --label-column")
    if known.min() == known.max():
        if wanted == "auto" and known[0] == 1:
            return "ranking", 1.0  # every pair belongs together
        raise InputError(
            f"every pair has the label {known[0]:g}, which tells none apart; give pairs of both kinds, or take every "
            "row for a pair that belongs together with --pair-loss ranking"
        )
    binary = bool(np.isin(known, (0.0, 1.0)).all())
    if wanted == "contrastive" and not binary:
        other = known[~np.isin(known, (0.0, 1.0))][0]
        raise InputError(f"--pair-loss contrastive takes the labels 0 and 1, found {other:g}; for scores: cosine")
    if wanted != "cosine" and binary:
        return "contrastive", 1.0
    if known.min() < -1 or (known.min() < 0 and known.max() > 1):
        raise InputError(
            f"scores from {known.min():g} to {known.max():g}: expected from -1 to 1, or from 0 up to any highest score"
        )
    return "cosine", max(1.0, float(known.max()))


def labelled_rows(labels: Floats, cosines: Floats, ranks: npt.NDArray[np.int64]) -> RowMetrics:
    """How well cosines follow labels (pearson, spearman, …), and the search among pairs that belong together.

    Args:
        labels: from 0 to 1; a pair belongs together from one half on. Shape: (pairs,).
        cosines: Shape: (pairs,).
        ranks: of each first text's own second, from 1. Shape: (pairs,).
    """
    numbers = number_rows(labels, cosines)
    together = labels >= 0.5
    search = np.stack([together, *(together * found for found in (ranks == 1, ranks <= 10, 1 / ranks))], 1)
    width = numbers.statistics.shape[1]

    def aggregate(sums: Floats) -> dict[str, Floats]:
        count = sums[..., width]
        found = {
            name: ratio(sums[..., width + i], count) for i, name in enumerate(("accuracy", "recall_at_10", "mrr"), 1)
        }
        return found | dict(numbers.aggregate(sums[..., :width]))

    return dataclasses.replace(
        numbers,
        statistics=np.concatenate([numbers.statistics, search], 1),
        aggregate=aggregate,
        correct=None,
        independent=False,
    )
