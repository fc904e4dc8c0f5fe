"""Predictions over many labels show the best ones alone, in constant memory."""

import numpy as np
import numpy.typing as npt
import pytest

from bertune.errors import InputError
from bertune.tasks.registry import new_task
from bertune.tasks.shared.scores import shown_scores

LABELS = [f"l{i}" for i in range(101)]


def rows(count: int) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = np.random.default_rng(0).random((3, count))
    values /= values.sum(1, keepdims=True)
    return values


def test_few_labels_are_all_shown_in_their_order() -> None:
    found = shown_scores(LABELS[:100], rows(100), None, all_scores=False)
    assert [list(one) for one in found] == [LABELS[:100]] * 3


@pytest.mark.parametrize(
    ("top_k", "all_scores", "shown"),
    [(None, False, 10), (3, False, 3), (None, True, 101), (200, False, 101), (1, False, 1)],
)
def test_of_many_labels_the_best_are_shown(top_k: int | None, all_scores: bool, shown: int) -> None:
    values = rows(101)
    found = shown_scores(LABELS, values, top_k, all_scores=all_scores)
    for scores, row in zip(found, values, strict=True):
        assert len(scores) == shown
        best = sorted(zip(row, LABELS, strict=True), reverse=True)[:shown]
        assert scores == {name: pytest.approx(p, abs=1e-6) for p, name in best}
        if shown < 101:
            assert list(scores) == [name for _, name in best]


def test_labels_that_are_given_are_always_shown() -> None:
    values = rows(101)
    given = np.zeros_like(values, bool)
    given[:, 7] = True
    for scores in shown_scores(LABELS, values, 2, all_scores=False, given=given):
        assert "l7" in scores
        assert len(scores) in (2, 3)


def test_equal_scores_keep_the_order_of_labels() -> None:
    (found,) = shown_scores(["a", "b", "c"], np.array([[0.2, 0.4, 0.4]]), 2, all_scores=False)
    assert list(found) == ["b", "c"]


def test_the_task_s_options() -> None:
    with pytest.raises(InputError, match="--top-k 0: must be at least 1"):
        new_task("multi-label-classification", {"top_k": 0})
