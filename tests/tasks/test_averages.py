"""Macro averages as scikit-learn has them; figures of a class have names that no average has."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from bertune.tasks.averages import class_metric, macro_mean
from bertune.tasks.protocol import lower_is_better
from bertune.tasks.shared.metrics import classification_metrics, classification_rows, decision_rows
from bertune.tasks.tagging.metrics import entity_metrics

ANSWERS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@settings(deadline=None)
@given(ANSWERS)
def test_several_classes(pairs: list[tuple[int, int]]) -> None:
    truth, found = np.array(pairs).T
    metrics = classification_metrics(truth, found, 5)
    values = classification_rows(truth, found, 5).metrics()
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = score(truth, found, average="macro", zero_division=0)
        assert metrics[name] == pytest.approx(expected)
        assert values[name] == pytest.approx(expected)


def test_perfect_answers_on_a_file_that_lacks_a_class() -> None:
    assert classification_metrics(np.array([0, 2]), np.array([0, 2]), 3)["f1"] == 1.0
    assert classification_metrics(np.array([0, 2]), np.array([0, 1]), 4)["f1"] == pytest.approx(1 / 3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))), min_size=1, max_size=6))
def test_several_labels(rows: list[tuple[set[str], set[str]]]) -> None:
    truth, found = (np.array([[label in row[i] for label in "abc"] for row in rows], int) for i in (0, 1))
    values = decision_rows(truth > 0, found > 0, "abc").metrics()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = f1_score(truth, found, average="macro", zero_division=np.nan)
    assert values["f1_macro"] == pytest.approx(0.0 if np.isnan(expected) else expected)


def test_no_class_at_all() -> None:
    assert macro_mean(np.array([[0.5, 1.0]]), np.array([[False, False]])) == [0.0]


@pytest.mark.parametrize("label", ["macro", "micro", "loss", "f1", "a/b", ""])
def test_labels_that_are_named_like_figures(label: str) -> None:
    figures = entity_metrics([{(label, 1)}, {("PER", 2)}], [{(label, 1)}, set()])
    assert figures[class_metric("f1", label)] == 1.0
    assert figures["f1"] == pytest.approx(2 / 3)
    assert not lower_is_better(class_metric("f1", label))
    truth, given_labels = np.array([[True, False], [False, True]]), np.array([[True, False], [False, False]])
    values = decision_rows(truth, given_labels, (label, "other")).metrics()
    assert (values["f1_macro"], values[class_metric("f1", label)]) == (0.5, 1.0)
