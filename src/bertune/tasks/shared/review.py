"""Which answers are sure enough to stand, and which are left to a person."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bertune.errors import InputError, Problems
from bertune.tasks.options import ReviewOptions
from bertune.tasks.reliability import Coverage, automatic_from
from bertune.tasks.row_metrics import Floats

if TYPE_CHECKING:
    from bertune.tasks.protocol import Task


def least_scores(options: ReviewOptions, labels: Sequence[str], coverage: Coverage) -> Floats | None:
    """For every label the score below which its answer is left to a person; None where no answer is.

    Args:
        options: `--threshold` and `--automate-at`; where both are given the higher score counts.
        labels: in the order of the logits.
        coverage: of the validation rows; empty where it is not known.

    Returns: Shape: (labels,).

    Raises:
        InputError: an unknown label, an accuracy without known coverage.
    """
    if options.threshold is None and options.automate_at is None:
        return None
    found = np.zeros(len(labels))
    if options.threshold is not None:
        found = per_label(options.threshold, labels, np.zeros(len(labels)))
    if options.automate_at is not None:
        if not coverage:
            raise InputError(
                f"--automate-at {options.automate_at}: this model keeps no coverage of validation rows; train it with "
                "validation data, at least 50 rows, or name scores with --threshold"
            )
        least = automatic_from(coverage, options.automate_at)
        found = np.maximum(found, math.inf if least is None else least)
    return found


def with_every_answer(task: "Task[Any]") -> "Task[Any]":
    """The task without options that leave answers to a person: judged is what the model would have answered."""
    if not isinstance(task.options, ReviewOptions):
        return task
    return task.with_options(replace(task.options, threshold=None, automate_at=None))


def per_label(spec: Sequence[str], labels: Sequence[str], default: Floats) -> Floats:
    """A number for every label as `--threshold` gives it: one for all, or LABEL=NUMBER.

    Args:
        spec: the option.
        labels: in the order of the logits.
        default: for labels that are not named. Shape: (labels,).

    Raises:
        InputError: a label that there is none of, or that is named twice.
    """
    found, problems, named = default.copy(), Problems(), set[str]()
    for part in spec:
        label, equals, number = part.rpartition("=")
        if not equals:
            found[:] = float(number)
        elif label not in labels:
            problems.add(f"--threshold {part}: no such label; known: {', '.join(labels)}")
        elif label in named:
            problems.add(f"--threshold {part}: the label {label!r} is given twice")
        else:
            found[list(labels).index(label)] = float(number)
        named.add(label)
    problems.raise_if_any()
    return found
