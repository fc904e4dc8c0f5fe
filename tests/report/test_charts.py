"""Charts: places of what they show."""

import re

import pytest

from bertune.report import charts

DIGIT = 7
"""Pixels of a digit in the widest of usual fonts."""


@pytest.mark.parametrize("most", [1.0, 0.000194, -0.00000123, 123456789.0])
def test_ticks_leave_room_for_the_label(most: float) -> None:
    svg = charts.lines("rate", ("step", "train/learning_rate"), [("rate", [(0, 0.0), (10, most)])])
    ticks = re.findall(r'<text x="(\d+)" y="[\d.]+" text-anchor="end">([^<]+)</text>', svg)
    assert len(ticks) == 5
    for right, text in ticks:
        assert int(right) - DIGIT * len(text) >= 12  # the baseline of the label, which is turned by 90 degrees
    (axis,) = re.findall(r'class="axis" d="M(\d+) ', svg)
    (line,) = re.findall(r'class="line s0" points="([\d.]+),', svg)
    assert float(axis) == float(line)  # the first point lies on the axis


def test_usual_numbers_have_the_usual_margin() -> None:
    axes = {
        re.findall(r'class="axis" d="M(\d+) ', charts.lines("loss", ("step", "loss"), [("", [(0, 0), (9, most)])]))[0]
        for most in (1, 0.25, 2.345)
    }
    assert len(axes) == 1


def test_the_level_of_progress_begins_at_the_axis() -> None:
    svg = charts.progress(
        "p", ("step", "m"), [(1, 0.0000123, "a"), (2, 0.0000456, "b")], [(1, 0.1)], (0.00002, "level")
    )
    (axis,), (level,) = (re.findall(pattern, svg) for pattern in (r'class="axis" d="M(\d+) ', r'5 4" d="M(\d+) '))
    assert axis == level
