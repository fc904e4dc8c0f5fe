"""Figures of a report from plain numbers: reliability, coverage, classes, slices, doubtful labels, kinds of errors."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.tasks.reliability import POINTS, Flags, bins_of, cuts_of, expected_calibration_error
from bertune.tasks.reliability import brier as brier  # noqa: PLC0414
from bertune.tasks.row_metrics import Floats

MOST_CLASSES = 25
"""Classes up to which the whole matrix of confusions is given."""
SMALLEST_SLICE = 30
"""Rows below which a slice says too little."""
_NUMBERS_AT_ONCE = 1 << 20
"""Probabilities looked at together: of thousands of classes a row has thousands."""
_ROUNDING = 1e-9
"""Of a mean of equal probabilities, which is not less than each of them."""


def reliability(confidence: Floats, correct: Flags) -> dict[str, Any]:
    """How well scores say how often answers are right.

    Args:
        confidence: a probability for each answer. Shape: (rows,).
        correct: Shape: (rows,).

    Returns: `ece`, the expected calibration error; `bins`, each with its mean confidence, accuracy and rows.
    """
    found = bins_of(confidence, correct)
    bins = [{"confidence": mean, "accuracy": right, "rows": rows} for mean, right, rows in found]
    return {"ece": expected_calibration_error(confidence, correct), "bins": bins}


def coverage(confidence: Floats, correct: Flags) -> dict[str, Any]:
    """Accuracy of the surest answers alone, for every share of answers that is kept.

    Returns: `curve`, at most 101 points of share and accuracy; `automate`, for accuracies of 0.95 and 0.99 the largest
    share that has it, and the lowest score in that share (None where no share does).
    """
    scores, ends, right = cuts_of(confidence, correct)
    shown = ends[np.unique(np.linspace(0, len(ends) - 1, min(POINTS, len(ends))).astype(int))]
    automate = {}
    for wanted in (0.95, 0.99):
        enough = ends[right[ends] >= wanted]
        at = int(enough[-1]) if len(enough) else None
        automate[str(wanted)] = None if at is None else {"share": (at + 1) / len(scores), "score": float(scores[at])}
    curve = [{"share": float((at + 1) / len(scores)), "accuracy": float(right[at])} for at in shown]
    return {"curve": curve, "automate": automate}


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson, 1927)."""
    if not whole:
        return 0.0, 1.0
    z = 1.959964
    share, spread = part / whole, 1 + z * z / whole
    middle = (share + z * z / (2 * whole)) / spread
    half = z * math.sqrt(share * (1 - share) / whole + z * z / (4 * whole * whole)) / spread
    return max(0.0, middle - half), min(1.0, middle + half)


def per_class(truth: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Precision and recall of every class with their intervals, F1, and rows; by falling number of rows.

    Args:
        truth: a label a row, or a set of labels.
        answers: likewise.
        labels: all classes.
    """
    sets = [[one if isinstance(one, frozenset) else frozenset((one,)) for one in side] for side in (truth, answers)]
    counts_true, counts_said = (Counter(label for one in side for label in one) for side in sets)
    counts_both = Counter(label for true, said in zip(*sets, strict=True) for label in true & said)
    found = []
    for label in labels:
        both, of_true, of_said = counts_both[label], counts_true[label], counts_said[label]
        precision, recall = both / of_said if of_said else 0.0, both / of_true if of_true else 0.0
        found.append(
            {
                "label": label,
                "rows": of_true,
                "answered": of_said,
                "precision": precision,
                "precision_interval": wilson(both, of_said),
                "recall": recall,
                "recall_interval": wilson(both, of_true),
                "f1": 2 * both / (of_true + of_said) if of_true + of_said else 0.0,
            }
        )
    return sorted(found, key=lambda one: (-int(str(one["rows"])), str(one["label"])))


def confusion(truth: Sequence[str], answers: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Counts of true labels (rows) and answers (columns), and the pairs that are confused most often.

    Of more than MOST_CLASSES labels the pairs alone: the counts would be their square.
    """
    counts = Counter(zip(truth, answers, strict=True))
    shown = labels if len(labels) <= MOST_CLASSES else ()
    pairs = [(a, b, n) for (a, b), n in counts.most_common() if a != b][:20]
    return {
        "labels": list(shown),
        "counts": [[counts[a, b] for b in shown] for a in shown],
        "pairs": [{"true": a, "answer": b, "rows": n} for a, b, n in pairs],
    }


def doubtful_labels(probabilities: Floats, given: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Rows for which some other class is more probable than their own, the least probable of those first.

    That order is cleanlab's "self-confidence"; it found more planted errors than margins and than the rows of the
    confident joint alone (benchmarks/LOG.md).

    Args:
        probabilities: of a model that was not trained on these rows. Shape: (rows, classes).
        given: labels. Shape: (rows,).
    """
    own = probabilities[np.arange(len(given)), given]
    at = np.flatnonzero(probabilities.max(1) > own)
    return at[np.argsort(own[at], kind="stable")]


def expected_label_errors(probabilities: Floats, given: npt.NDArray[np.integer]) -> int:
    """How many labels are likely wrong: rows off the diagonal of the confident joint (Northcutt et al., 2021).

    A row counts where some other class is more probable than its own, and has at least the mean probability that rows
    labelled with that class have for it. Shape: probabilities (rows, classes), given (rows,).
    """
    rows, classes = probabilities.shape
    own = probabilities[np.arange(rows), given].astype(np.float64)
    sums, counts = np.bincount(given, own, classes), np.bincount(given, minlength=classes)
    typical = np.divide(sums, counts, out=np.full(classes, np.inf), where=counts > 0)
    best, at_once = np.empty(rows), max(1, _NUMBERS_AT_ONCE // max(1, classes))
    for start in range(0, rows, at_once):
        part = probabilities[start : start + at_once]
        reached = np.where(part >= typical - _ROUNDING, part, -1.0)
        reached[np.arange(len(part)), given[start : start + at_once]] = -1.0
        best[start : start + at_once] = reached.max(1)
    return int((best > own).sum())


def combined(probabilities: Sequence[Floats]) -> Floats:
    """Their geometric mean, which falls where any of them is low, scaled to a sum of 1. Shape: (rows, classes) each."""
    mean = np.exp(np.mean([np.log(np.maximum(one, 1e-6)) for one in probabilities], 0))
    result: Floats = mean / mean.sum(1, keepdims=True)
    return result


def slices(groups: Mapping[str, Flags], correct: Flags) -> list[dict[str, Any]]:
    """Accuracy within groups of rows and its difference from all other rows, with tests corrected for their number.

    The test is Fisher's exact one, the correction Holm's. Groups of fewer than SMALLEST_SLICE rows are left out.

    Args:
        groups: by name, which rows belong to it. Shape: (rows,) each.
        correct: Shape: (rows,).
    """
    from scipy.stats import fisher_exact

    found: list[dict[str, Any]] = []
    for name, inside in groups.items():
        rows, others = int(inside.sum()), int((~inside).sum())
        if rows < SMALLEST_SLICE or others < SMALLEST_SLICE:
            continue
        right, right_others = int(correct[inside].sum()), int(correct[~inside].sum())
        p = float(fisher_exact([[right, rows - right], [right_others, others - right_others]]).pvalue)
        low, high = wilson(right, rows)
        difference = right / rows - right_others / others
        found.append({"slice": name, "rows": rows, "accuracy": right / rows, "low": low, "high": high,
                      "difference": difference, "p": p})  # fmt: skip
    found.sort(key=lambda one: one["p"])
    highest = 0.0
    for rank, one in enumerate(found):
        highest = max(highest, min(1.0, one["p"] * (len(found) - rank)))
        one["p_corrected"] = highest
    return found


Span = tuple[Any, int, int]


def entity_errors(truth: Sequence[frozenset[Span]], answers: Sequence[frozenset[Span]]) -> dict[str, int]:
    """Entities (label, start, end) that are right, and kinds of errors.

    boundary: the right label over other characters.  type: the right characters under another label.
    both: overlapping, with another label.  missed: true ones that no answer overlaps.  spurious: answers over nothing.
    """
    kinds = dict.fromkeys(("right", "boundary", "type", "both", "missed", "spurious"), 0)
    for true, found in zip(truth, answers, strict=True):
        kinds["right"] += len(true & found)
        left = sorted(found - true, key=lambda one: (one[1], one[2]))
        used: set[Span] = set()
        for label, start, end in sorted(true - found, key=lambda one: (one[1], one[2])):
            over = [one for one in left if one not in used and one[1] < end and start < one[2]]
            if not over:
                kinds["missed"] += 1
                continue
            best = max(over, key=lambda one: (one[0] == label, (one[1], one[2]) == (start, end)))
            used.add(best)
            same_label, same_place = best[0] == label, (best[1], best[2]) == (start, end)
            kinds["boundary" if same_label else "type" if same_place else "both"] += 1
        kinds["spurious"] += len(left) - len(used)
    return kinds
