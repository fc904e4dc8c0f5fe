"""Metrics from sums over rows: of any weighting the same as of rows written out as often."""

import ast
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score, matthews_corrcoef, precision_score, recall_score

import bertune
from bertune.tasks.registry import TASKS, task_kind
from bertune.tasks.row_metrics import RowMetrics, ratio
from bertune.tasks.shared.metrics import (
    classification_metrics,
    classification_rows,
    decision_rows,
    number_rows,
    spearman,
)

CHANCE = np.random.default_rng(1)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classification_is_scikit_learns(classes: int) -> None:
    truth, found = CHANCE.integers(0, classes, (2, 200))
    average = "binary" if classes == 2 else "macro"
    expected = {
        "accuracy": float((truth == found).mean()),
        "f1": f1_score(truth, found, average=average),
        "precision": precision_score(truth, found, average=average),
        "recall": recall_score(truth, found, average=average),
        "matthews_correlation": matthews_corrcoef(truth, found),
    }
    assert classification_metrics(truth, found, classes) == pytest.approx(expected, abs=1e-12)
    rows = classification_rows(truth, found, classes)
    assert rows.metrics() == pytest.approx(expected, abs=1e-12)
    assert rows.correct is not None
    assert rows.correct.mean() == expected["accuracy"]


@pytest.mark.parametrize(
    "rows",
    [
        classification_rows(CHANCE.integers(0, 4, 60), CHANCE.integers(0, 4, 60), 4),
        classification_rows(CHANCE.integers(0, 2, 60), CHANCE.integers(0, 2, 60), 2),
        decision_rows(CHANCE.random((60, 3)) < 0.4, CHANCE.random((60, 3)) < 0.4, ("a", "b", "c")),
        number_rows(CHANCE.normal(size=60).round(1), CHANCE.normal(size=60).round(1)),
        RowMetrics.means(right=CHANCE.random(60) < 0.3, size=CHANCE.normal(size=60)),
    ],
    ids=["four", "two", "several", "numbers", "means"],
)
def test_weights_count_rows_as_often(rows: RowMetrics) -> None:
    drawn = CHANCE.integers(0, 60, (5, 60))
    weights = np.stack([np.bincount(some, minlength=60) for some in drawn]).astype(float)
    for name in rows.metrics():
        values = rows.metric(name, weights)
        for some, value in zip(drawn, values, strict=True):
            chosen = RowMetrics(rows.statistics[some], rows.aggregate, by_rows=rows.by_rows)
            assert chosen.metrics()[name] == pytest.approx(value, abs=1e-9)


def test_sums_of_two_parts_are_those_of_the_whole() -> None:
    """What several processes, or folds, add up."""
    truth, found = CHANCE.integers(0, 3, (2, 90))
    whole = classification_rows(truth, found, 3)
    parts = [classification_rows(truth[some], found[some], 3) for some in (slice(0, 31), slice(31, 90))]
    sums = sum(part.statistics.sum(0) for part in parts)
    assert {name: float(value) for name, value in whole.aggregate(np.asarray(sums)).items()} == whole.metrics()


def test_nothing_to_divide_by_is_zero() -> None:
    assert ratio(np.array([1.0, 2.0]), np.array([0.0, 4.0])).tolist() == [0.0, 0.5]
    none = classification_rows(np.array([0, 0]), np.array([0, 0]), 2).metrics()
    assert none == {"accuracy": 1.0, "f1": 0.0, "precision": 0.0, "recall": 0.0, "matthews_correlation": 0.0}
    still = number_rows(np.array([1.0, 2.0, 3.0]), np.full(3, 0.1)).metrics()
    assert (still["pearson"], still["spearman"]) == (0.0, 0.0)


def test_rank_correlation_shares_ranks() -> None:
    assert spearman(np.array([1.0, 2.0, 2.0, 4.0]), np.array([10.0, 20.0, 20.0, 30.0])) == pytest.approx(1.0)


def test_nothing_chooses_by_the_class_of_a_task() -> None:
    """What differs between tasks belongs to the tasks: no isinstance over them, and no table keyed by them."""
    kinds = {task_kind(name).__name__ for name in TASKS if isinstance(task_kind(name), type)}
    assert len(kinds) == 8
    found = []
    for path in sorted(Path(bertune.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            asked: list[ast.AST | None] = []
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("isinstance", "issubclass"):
                asked = [node.args[1]]
            elif isinstance(node, ast.Dict):
                asked = list(node.keys)
            elif isinstance(node, ast.MatchClass):
                asked = [node.cls]
            names = {
                part.id for one in asked if one is not None for part in ast.walk(one) if isinstance(part, ast.Name)
            }
            if names & kinds:
                found.append(f"{path.name}: {ast.unparse(node)[:80]}: {', '.join(sorted(names & kinds))}")
    assert not found


def test_thousands_of_labels_take_the_memory_of_a_few() -> None:
    """One class a row is kept as one class, and a bootstrap never holds more than some sums at a time."""
    rows, labels = 6000, 5000
    truth, found = CHANCE.integers(0, labels, (2, rows))
    found[: rows // 2] = truth[: rows // 2]
    tracemalloc.start()
    classes = classification_rows(truth, found, labels)
    f1 = classes.metric("f1", CHANCE.integers(0, 3, (200, rows)).astype(float))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 << 20  # dense statistics alone took 720 MB
    assert len(classes) == rows
    assert f1.shape == (200,)
    assert classes.metrics()["f1"] == pytest.approx(f1_score(truth, found, average="macro"), abs=1e-12)
