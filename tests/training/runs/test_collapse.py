"""When a model's answers count as collapsed, for every kind of answer; the loss of knowing only the labels' shares."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertune.conformance import LENGTH, tiny_encoder
from bertune.features import Column, Features
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task
from bertune.training.loop.optimizer import Schedule
from bertune.training.loop.state import TrainConfig, TrainState
from bertune.training.runs.collapse import LEAST_UPDATES, chance_loss, collapse_of, constant_answer, late_collapse_of
from tests.conformance import SAMPLES
from tests.tiny import opinions, write_rows

FILES = {
    "text-classification": "intents/dev.csv",
    "regression": "similarity/dev.csv",
    "multi-label-classification": "topics/dev.csv",
    "token-classification": "entities/dev.conll",
    "question-answering": "handbook/dev.json",
    "multiple-choice": "choices/dev.jsonl",
}
PLAN = TrainConfig(100, 8, 1, 42, Schedule(1e-3, 100, 10), None, "accuracy")


def made(name: str, folder: Path, options: dict[str, Any] | None = None) -> tuple[Task[Any], Features, list[Any]]:
    """A task, features and examples of sample data."""
    path = SAMPLES / FILES[name]
    task = new_task(name, options)
    examples = list(task.read(path, labelled=True))
    task = task.fit(examples, path=path, settings={})
    _, tokenizer = tiny_encoder(folder)
    return task, task.featurize(examples, tokenizer, LENGTH, purpose="evaluate"), examples


def logits_of(name: str, task: Any, features: Features, *, varied: bool) -> list[Any]:
    """Logits that answer every row alike, or rows differently."""
    chance = np.random.default_rng(0)
    lengths = features.input_ids.lengths

    def noise(shape: Any) -> Any:
        return 1e-4 * chance.standard_normal(shape)

    if name == "token-classification":
        outside = task.labels.index("O")
        logits = [noise((n, len(task.labels))) + 5 * (np.arange(len(task.labels)) == outside) for n in lengths]
    elif name == "question-answering":  # the first token, for no answer
        logits = [noise((n, 2)) + 9 * (np.arange(n) == 0)[:, None] for n in lengths]
    elif name == "multiple-choice":  # the second choice of each
        starts = np.searchsorted(features.example_index, features.example_index)
        logits = [np.array([float(i - start == 1)]) for i, start in enumerate(starts)]
    else:
        width = {"regression": 1}.get(name) or len(task.labels)
        logits = [noise(width) + np.linspace(1, -1.3, width) for _ in lengths]
    if varied:
        logits = [values + 20 * chance.standard_normal(values.shape) for values in logits]
    return [values.astype(np.float32) for values in logits]


@pytest.mark.parametrize("name", FILES)
def test_the_same_answer_to_every_row(name: str, tmp_path: Path) -> None:
    task, features, examples = made(name, tmp_path)
    if name == "question-answering" and not task.has_unanswerable:  # type: ignore[attr-defined]
        pytest.fail("the sample data should hold unanswerable questions")
    assert constant_answer(task, logits_of(name, task, features, varied=False), features, examples) is not None
    assert constant_answer(task, logits_of(name, task, features, varied=True), features, examples) is None


def test_rows_that_are_truly_all_alike(tmp_path: Path) -> None:
    task, features, examples = made("text-classification", tmp_path)
    logits = logits_of("text-classification", task, features, varied=False)
    assert constant_answer(task, logits, features, [examples[0]] * len(examples)) is None
    assert constant_answer(task, logits[:1], features.first(1), examples[:1]) is None


def test_a_difference_far_behind_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertune.training.runs.collapse.LOOKED_AT", 4)
    task, features, examples = made("text-classification", tmp_path)
    logits = logits_of("text-classification", task, features, varied=False)
    assert constant_answer(task, logits, features, examples) is not None
    logits[-1] = -logits[-1]
    assert constant_answer(task, logits, features, examples) is None


def test_an_embedding_has_no_answer_to_be_alike(tmp_path: Path) -> None:
    task = new_task("embedding")
    path = SAMPLES / "similarity/dev.csv"
    examples = list(task.read(path, labelled=True))
    _, tokenizer = tiny_encoder(tmp_path)
    features = task.featurize(examples, tokenizer, LENGTH, purpose="evaluate")
    assert constant_answer(task, [np.ones(16, np.float32)] * len(features), features, examples) is None


def classes(tmp_path: Path, **options: Any) -> tuple[Task[Any], Mapping[str, Column]]:
    """Two classes, one of them thrice as frequent."""
    path = write_rows(tmp_path / "rows.csv", [row | {"label": int(i % 4 == 0)} for i, row in enumerate(opinions(40))])
    task = new_task("text-classification", options)
    examples = list(task.read(path, labelled=True))
    task = task.fit(examples, path=path, settings={})
    _, tokenizer = tiny_encoder(tmp_path)
    return task, task.featurize(examples, tokenizer, LENGTH, purpose="train").targets


def test_the_loss_at_chance_is_the_entropy_of_the_labels(tmp_path: Path) -> None:
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert chance_loss(*classes(tmp_path)) == pytest.approx(entropy)
    assert chance_loss(*classes(tmp_path, class_weights="balanced")) == pytest.approx(math.log(2))
    smooth = -(0.3 * math.log(0.25) + 0.7 * math.log(0.75))
    assert chance_loss(*classes(tmp_path, label_smoothing=0.2)) == pytest.approx(smooth)
    task, features, _ = made("regression", tmp_path)
    assert chance_loss(task, features.targets) is None


@pytest.mark.parametrize(
    ("loss", "losses", "matthews", "collapsed"),
    [
        (0.70, 90, None, True),
        (0.65, 90, None, False),
        (0.70, LEAST_UPDATES - 1, None, False),
        (0.70, 90, 0.02, True),
        (0.70, 90, 0.4, False),
    ],
)
def test_a_training_loss_at_chance(loss: float, losses: int, matthews: float | None, collapsed: bool) -> None:
    metrics = {} if matthews is None else {"matthews_correlation": matthews}
    progress = TrainState(step=100, loss=loss, losses=losses, best_metrics=metrics)
    assert (collapse_of(progress, PLAN, math.log(2)) is not None) == collapsed
    assert collapse_of(progress, PLAN, None) is None


GOOD: dict[str, Any] = {"best": 0.87, "best_step": 40, "best_metrics": {"matthews_correlation": 0.7}}


@pytest.mark.parametrize(
    ("came", "told"),
    [
        ({"constant_prediction": "'bad'", "constant_prediction_since": 60}, "from step 60 on every validation row"),
        ({"loss": 0.70, "losses": 90, "correlation": 0.0}, "how frequent each label is"),
        ({"loss": 0.70, "losses": 90, "correlation": 0.6}, None),  # slow, no worse
        ({"loss": 0.30, "losses": 90, "correlation": 0.0}, None),
        (
            {"constant_prediction": "'bad'", "constant_prediction_since": 100, "best_step": 100},
            None,
        ),  # the kept model's own
    ],
)
def test_a_collapse_after_a_good_model(came: dict[str, Any], told: str | None) -> None:
    progress = TrainState(step=100, **(GOOD | came))
    if progress.best_step < progress.step:
        assert collapse_of(progress, PLAN, math.log(2)) is None
    late = late_collapse_of(progress, PLAN, math.log(2))
    assert (late is None) == (told is None)
    if told is not None:
        assert "after step 40, whose model (accuracy 0.8700) is kept" in str(late)
        assert told in str(late)


def test_few_updates_are_said_to_be_few() -> None:
    import dataclasses

    progress = TrainState(step=2, best_constant_prediction="'bad'")
    assert "('bad')" in str(collapse_of(progress, PLAN, None))
    assert "--epochs" in str(collapse_of(progress, dataclasses.replace(PLAN, steps=2), None))


@pytest.mark.parametrize("label", [[-1, 0, 1], [], [[0], [1]], [0.0, 1.0]])
def test_what_is_no_number_of_a_class_has_no_loss_at_chance(tmp_path: Path, label: list[Any]) -> None:
    task, _ = classes(tmp_path)
    assert chance_loss(task, {"label": np.array(label)}) is None


def test_targets_beside_the_class_have_a_loss_of_their_own(tmp_path: Path) -> None:
    task, targets = classes(tmp_path)
    assert chance_loss(task, {**targets, "weight": np.ones(40, np.int32)}) is None


def test_the_loss_of_a_task_from_a_file_is_not_guessed(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from bertune.tasks.text_classification import TextClassification\n\n\n"
        "class Pairs(TextClassification):\n"
        "    def loss(self, logits, targets, layout):\n"
        "        raise ValueError('two logits a class are expected')\n"
    )
    _, targets = classes(tmp_path)
    assert chance_loss(new_task(f"{own}:Pairs"), targets) is None


def test_a_label_that_training_lacks_counts_as_a_class(tmp_path: Path) -> None:
    import dataclasses

    task, targets = classes(tmp_path, class_weights="balanced")
    wider = dataclasses.replace(task, labels=("0", "1", "2"), weights=(1.0, 1.0, 1.0))  # type: ignore[type-var]
    assert chance_loss(wider, targets) is not None
