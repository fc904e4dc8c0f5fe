"""Intervals around predicted numbers that hold a wanted share of the true ones: split conformal prediction.

Source: Vovk, Gammerman & Shafer, 2005; Lei et al., 2018, "Distribution-free predictive inference for regression". Rows
to come whose errors are drawn as those of the n validation rows were lie within the k-th smallest of these errors with
a probability of k / (n + 1) at least, whatever the model.
"""

import numpy as np
import numpy.typing as npt

from bertune.errors import InputError

Curve = tuple[tuple[float, float], ...]
"""Shares, ascending, and how far from the predicted number the true one lies at most in that share of the rows."""

POINTS = 100
"""Points of a curve that are spread evenly; as many again crowd at its upper end, where shares such as 0.99 lie."""

Floats = npt.NDArray[np.float64]


def error_curve(truth: Floats, answers: Floats) -> Curve:
    """What validation rows say of the errors to come. Shape: (rows,) each."""
    errors = np.sort(np.abs(truth - answers))
    count = len(errors)
    if not count:
        return ()
    ranks = np.concatenate([np.linspace(1, count, POINTS), count + 1 - np.geomspace(1, count, POINTS)])
    return tuple(
        (rank / (count + 1), float(errors[rank - 1])) for rank in np.unique(np.round(ranks).astype(int)).tolist()
    )


def too_few(curve: Curve, share: float) -> bool:
    """Whether the rows behind a curve are too few for an interval that holds this share."""
    return not curve or curve[-1][0] < share


def half_width(curve: Curve, share: float) -> float:
    """How far the interval reaches to either side, for it to hold this share of the true numbers, or a little more.

    Raises:
        InputError: no curve, or one of too few rows for that share.
    """
    if not curve:
        raise InputError(
            f"--interval {share}: this model keeps no errors of validation rows; train it with validation data"
        )
    if too_few(curve, share):
        rows = round(1 / (1 - curve[-1][0])) - 1
        raise InputError(
            f"--interval {share}: this model was validated on {rows} rows, enough for {curve[-1][0]:.4g} at most"
        )
    return next(width for level, width in curve if level >= share)
