"""Macro averages as scikit-learn has them; figures of a class have names that no average has."""

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score, precision_score, recall_score

from bertune.evaluation.outcomes import judge_of
from bertune.tasks.averages import class_metric, macro_mean
from bertune.tasks.multi_label import LabelledText, MultiLabelClassification
from bertune.tasks.tagging.metrics import entity_metrics
from bertune.tasks.task import lower_is_better
from bertune.tasks.text_classification import TextClassification, TextExample, classification_metrics

ANSWERS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12)


@given(ANSWERS)
def test_several_classes(pairs: list[tuple[int, int]]) -> None:
    truth, found = np.array(pairs).T
    metrics = classification_metrics(truth, found, 5)
    judge = judge_of(task := TextClassification(labels=tuple("abcde")))
    assert judge is not None
    examples = [TextExample("x", label="abcde"[one]) for one in truth]
    values = judge(task, examples, [{"label": "abcde"[one]} for one in found]).values()
    for name, score in (("f1", f1_score), ("precision", precision_score), ("recall", recall_score)):
        expected = score(truth, found, average="macro", zero_division=0)
        assert metrics[name] == pytest.approx(expected)
        assert values[name] == pytest.approx(expected)


def test_perfect_answers_on_a_file_that_lacks_a_class() -> None:
    assert classification_metrics(np.array([0, 2]), np.array([0, 2]), 3)["f1"] == 1.0
    assert classification_metrics(np.array([0, 2]), np.array([0, 1]), 4)["f1"] == pytest.approx(1 / 3)


@given(st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))), min_size=1, max_size=6))
def test_several_labels(rows: list[tuple[set[str], set[str]]]) -> None:
    task: Any = MultiLabelClassification(labels=tuple("abc"), thresholds=(0.5,) * 3)
    judge = judge_of(task)
    assert judge is not None
    examples = [LabelledText("x", labels=frozenset(true)) for true, _ in rows]
    values = judge(task, examples, [{"labels": sorted(found)} for _, found in rows]).values()
    truth, found = (np.array([[label in row[i] for label in "abc"] for row in rows], int) for i in (0, 1))
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
    task: Any = MultiLabelClassification(labels=(label, "other"), thresholds=(0.5, 0.5))
    judge = judge_of(task)
    assert judge is not None
    examples = [LabelledText("x", labels=frozenset({label})), LabelledText("y", labels=frozenset({"other"}))]
    values = judge(task, examples, [{"labels": [label]}, {"labels": []}]).values()
    assert (values["f1_macro"], values[class_metric("f1", label)]) == (0.5, 1.0)
