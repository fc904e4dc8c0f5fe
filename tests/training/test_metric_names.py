"""Which metrics `--metric` may name: what tasks declare is what their evaluations give."""

import json
from pathlib import Path

import pytest

from bertune.tasks.registry import new_task
from bertune.training.fine_tune import metric_problems
from tests import runs

OF_NO_USE = {"examples_per_second", "train_examples_per_second", "train_seconds", "eval_examples_per_second"}


@pytest.mark.parametrize("task", sorted(runs.KINDS.keys() - {"pretraining"}))
def test_every_metric_of_a_run_is_declared(tmp_path: Path, task: str) -> None:
    """And every declared one that ends in no label is given by these data, or depends on options."""
    runs.start(tmp_path / "run", runs.prepare(tmp_path / "data", task) | {"report": False})
    given = json.loads((tmp_path / "run/metrics.json").read_text())
    names = {name for name, value in given.items() if isinstance(value, int | float)} - OF_NO_USE
    made = new_task(task)
    refused = [name for name in names if metric_problems(name, made)]
    assert [name for name in refused if not name.endswith(("total", "_thresh"))] == []
    declared = {name for name in made.metric_names if not name.endswith("/")}  # type: ignore[attr-defined]
    optional = {"answered", "answered_accuracy"} | (
        {"pearson", "spearman", "rmse", "mae"} if "embed" in task else set()
    )
    assert declared - optional <= names


def test_other_names_are_refused_with_what_there_is() -> None:
    tags = new_task("token-classification")
    assert metric_problems("f1/PER", tags) == metric_problems("loss", tags) == []
    (told,) = metric_problems("f2/PER", tags)
    assert told.startswith("--metric f2/PER: this task gives accuracy, f1, ")
    assert "f1/LABEL" in told


def test_tasks_of_other_files_decide_by_their_evaluations(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from bertune.tasks.regression import Regression\n\n\nclass Own(Regression):\n"
        "    def metrics(self, logits, features, examples):\n        return {'beauty': 1.0}\n"
    )
    assert metric_problems("beauty", new_task(f"{file}:Own")) == []
