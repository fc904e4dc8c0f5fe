"""Tests over seeds: probabilities that can be counted by hand, and scipy's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bertune.errors import InputError
from bertune.evaluation.seeds import compare_seeds, have_seeds, permutation_p


def folder(path: Path, values: list[float], sha256: str = "a") -> Path:
    path.mkdir()
    seeds = {str(i): {"accuracy": value, "steps": 3} for i, value in enumerate(values)}
    (path / "seeds.json").write_text(json.dumps({"metric": "accuracy", "seeds": seeds}), encoding="utf-8")
    data = {"validation": {"sha256": sha256}}
    (path / "bertune.json").write_text(json.dumps({"data": data}), encoding="utf-8")
    return path


def test_all_ways_of_dealing_are_counted() -> None:
    # Of the 20 ways to deal 6 figures into halves, two part them into the three lowest and the three highest.
    assert permutation_p([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)
    assert permutation_p([1, 1], [1, 1]) == 1.0
    # Many seeds: drawn, and near to the exact t-test of the same figures.
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.80, 0.02, 12).tolist(), rng.normal(0.81, 0.02, 12).tolist()
    assert permutation_p(a, b) == pytest.approx(stats.ttest_ind(a, b).pvalue, abs=0.02)


def test_welch_and_means(tmp_path: Path) -> None:
    a, b = [0.80, 0.82, 0.81], [0.85, 0.86, 0.90]
    one, other = folder(tmp_path / "one", a), folder(tmp_path / "other", b)
    found = compare_seeds([one, other])
    (pair,) = found["pairs"]
    expected = stats.ttest_ind(b, a, equal_var=False)
    assert pair["difference"] == pytest.approx(0.06)
    assert pair["p_welch"] == pytest.approx(expected.pvalue)
    assert (pair["low"], pair["high"]) == pytest.approx(tuple(expected.confidence_interval()))
    assert pair["p_permutation"] == pytest.approx(2 / 20)
    assert found["runs"][0]["mean"] == pytest.approx(0.81)
    assert found["runs"][0]["standard_deviation"] == pytest.approx(0.01)


def test_figures_without_spread(tmp_path: Path) -> None:
    found = compare_seeds([folder(tmp_path / "one", [0.5, 0.5]), folder(tmp_path / "other", [0.7, 0.7])])
    assert found["pairs"][0]["p_welch"] == 0.0
    assert found["pairs"][0]["low"] == found["pairs"][0]["high"] == pytest.approx(0.2)


def test_refusals(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", [0.5, 0.6]), folder(tmp_path / "other", [0.5, 0.6], sha256="b")
    alone = folder(tmp_path / "alone", [0.5])
    with pytest.raises(InputError, match="validated on different rows"):
        compare_seeds([one, other])
    with pytest.raises(InputError, match=r"alone: seeds\.json holds no accuracy of at least two seeds"):
        compare_seeds([one, alone])
    with pytest.raises(InputError, match="holds no f1"):
        compare_seeds([one, other], "f1")
    assert have_seeds([one, other])
    assert not have_seeds([one, tmp_path])


def test_a_sweep_that_had_time_for_one_repetition_is_compared_row_by_row(tmp_path: Path) -> None:
    for name, seeds in (("one", {"1": {"accuracy": 0.5}}), ("two", {"1": {"accuracy": 0.5}, "2": {"accuracy": 0.6}})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "seeds.json").write_text(json.dumps({"metric": "accuracy", "seeds": seeds}))
    assert have_seeds([tmp_path / "two"])
    assert not have_seeds([tmp_path / "two", tmp_path / "one"])
    assert not have_seeds([tmp_path / "two", tmp_path])
