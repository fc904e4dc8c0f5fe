"""Intervals of split conformal prediction: they hold the wanted share of numbers to come, on average."""

import numpy as np
import pytest

from bertune.errors import InputError
from bertune.tasks.shared.intervals import error_curve, half_width, too_few


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95])
@pytest.mark.parametrize("rows", [40, 700])
def test_they_hold_the_share_of_numbers_to_come(share: float, rows: int) -> None:
    """The mean over many validation sets is at least the share, and no more than points of the curve ask for."""
    rng = np.random.default_rng(rows)
    held = []
    for _ in range(400):
        curve = error_curve(rng.standard_t(3, rows), np.zeros(rows))
        held.append((np.abs(rng.standard_t(3, 500)) <= half_width(curve, share)).mean())
    assert share - 0.005 <= np.mean(held) <= share + 0.03


def test_the_width_is_the_error_of_that_rank() -> None:
    curve = error_curve(np.arange(1.0, 20.0), np.zeros(19))
    assert half_width(curve, 0.9) == 18.0  # of 19 rows the 18th: 18 / 20
    assert half_width(curve, 0.95) == 19.0
    assert too_few(curve, 0.951)


def test_a_curve_of_many_rows_is_short_and_errs_to_the_wide_side() -> None:
    errors = np.sort(np.random.default_rng(0).exponential(size=100_000))
    curve = error_curve(errors, np.zeros(len(errors)))
    assert len(curve) <= 200
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = errors[int(np.ceil(share * (len(errors) + 1))) - 1]
        assert exact <= half_width(curve, share) <= exact * 1.06


def test_what_the_rows_do_not_give_is_refused() -> None:
    with pytest.raises(InputError, match=r"validated on 19 rows, enough for 0\.95 at most"):
        half_width(error_curve(np.arange(19.0), np.zeros(19)), 0.99)
    with pytest.raises(InputError, match="keeps no errors of validation rows"):
        half_width((), 0.5)
    assert error_curve(np.zeros(0), np.zeros(0)) == ()
