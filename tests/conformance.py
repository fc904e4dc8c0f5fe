"""The checks that every task passes, as parameters of one test, and where the sample data is."""

from pathlib import Path

import pytest

import bertune
from bertune.conformance import CHECKS, Case

__all__ = ["SAMPLES", "Case", "each_check"]

SAMPLES = Path(bertune.__file__).parent / "samples"
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
