"""Several labels for a text: files, thresholds, metrics, the folder in transformers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import bertune
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.tasks.multi_label import LabelledText, MultiLabelClassification, best_threshold
from bertune.tasks.registry import new_task, task_from_json
from bertune.training.train import train
from tests.tiny import write_encoder, write_rows

NAME = "multi-label-classification"
EXPECTED = [frozenset({"a", "b"}), frozenset(), frozenset({"b"})]


def read(path: Path, **options: Any) -> list[frozenset[str]]:
    return [example.labels for example in new_task(NAME, options).read(path, labelled=True)]


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_lists(tmp_path: Path, name: str) -> None:
    rows = [{"text": "s", "labels": ["a", "b"]}, {"text": "t", "labels": []}, {"text": "u", "labels": ["b"]}]
    assert read(write_rows(tmp_path / name, rows)) == EXPECTED


@pytest.mark.parametrize(
    ("cells", "options"),
    [(("a|b", "", "b"), {}), (("a; b", "", "b"), {"label_delimiter": ";"}), (('["a", "b"]', "[]", '["b"]'), {})],
)
def test_joined(tmp_path: Path, cells: tuple[str, ...], options: dict[str, str]) -> None:
    rows = [{"text": "s", "tags": cell} for cell in cells]
    assert read(write_rows(tmp_path / "x.csv", rows), label_column="tags", **options) == EXPECTED


@pytest.mark.parametrize("values", [(0, 1), ("false", "true"), (0.0, 1.0)])
def test_a_column_each(tmp_path: Path, values: tuple[Any, Any]) -> None:
    rows = [{"text": "s", "a": values["a" in e], "b": values["b" in e], "c": values[0]} for e in EXPECTED]
    path = write_rows(tmp_path / "x.csv", rows)
    assert read(path, label_columns=["a", "b", "c"]) == EXPECTED


def test_bad_cells(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.csv", [{"text": "s", "a": 0, "b": 2}, {"text": "t", "a": "", "b": 1}])
    with pytest.raises(InputError) as error:
        read(path, label_columns=["a", "b"])
    assert "line 2, column 'b': expected 0 or 1, found '2'" in str(error.value)
    assert "line 3, column 'a': expected 0 or 1, found ''" in str(error.value)
    with pytest.raises(InputError, match="no column 'd'"):
        read(path, label_columns=["a", "d"])


def test_unknown_labels_are_named() -> None:
    task = new_task(NAME).fit([LabelledText("s", labels=frozenset("ab"))], path=Path("t.csv"), settings={})
    assert task.problems([LabelledText("s", labels=frozenset("ac"), place=7)], Path("d.csv")) == [
        "d.csv, line 7: label 'c' never occurs in the training data; known: a, b"
    ]


def test_a_rare_label_that_was_not_learnt_is_not_given_to_most_texts() -> None:
    rng = np.random.default_rng(5)
    truth = np.zeros(1_000, np.bool_)
    truth[[3, 500, 900]] = True
    unlearnt = [best_threshold(p, truth) for p in rng.uniform(0.4, 0.45, (200, 1_000))]
    given = [float((p >= t).mean()) for p, t in zip(rng.uniform(0.4, 0.45, (200, 1_000)), unlearnt, strict=True)]
    assert np.mean(given) < 0.1
    assert best_threshold(np.full(1_000, 0.4), truth) == 0.5  # the best f1 would be that of giving it to all
    assert best_threshold(np.where(truth, 0.3, 0.1), truth) == pytest.approx(0.2)


def test_targets_are_as_wide_as_the_text_with_most_labels() -> None:
    names = tuple(f"label {i}" for i in range(5_000))
    every = [LabelledText("", labels=frozenset(names))]
    task = MultiLabelClassification().fit(every, path=Path("t.csv"), settings={})
    some = [
        LabelledText("s", labels=frozenset(("label 3", "label 4999"))),
        LabelledText("t"),
        LabelledText("u", None, frozenset(names[:1])),
    ]
    column = task.targets(some)["labels"]
    assert isinstance(column, np.ndarray)
    assert column.shape == (3, 2)
    logits = torch.randn(3, 5_000, requires_grad=True)
    dense = torch.zeros(3, 5_000)
    for row, example in enumerate(some):
        dense[row, [i for i, label in enumerate(task.labels) if label in example.labels]] = 1
    total, count = task.loss(logits, {"labels": torch.from_numpy(column).long()}, Layout.packed([1] * 3))
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, dense, reduction="sum")
    assert total.item() == pytest.approx(expected.item(), rel=1e-6)
    assert count == 15_000


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6).map(lambda i: i / 6), st.booleans()), min_size=1, max_size=15))
def test_no_threshold_is_better(rows: list[tuple[float, bool]]) -> None:
    p, truth = np.array([one for one, _ in rows]), np.array([two for _, two in rows])
    best = best_threshold(p, truth)
    if not truth.any():
        assert best == 0.5
        return
    scores = [sklearn.metrics.f1_score(truth, p >= t) for t in np.linspace(0, 1, 61)]
    assert sklearn.metrics.f1_score(truth, p >= best) == pytest.approx(max(scores))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("multi")
    write_encoder(base / "encoder")
    words = ["good", "bad", "film"]
    rows = [
        {"text": " ".join(["the", *chosen]), "labels": "|".join(chosen)}
        for i in range(64)
        for chosen in [[word for bit, word in enumerate(words) if i >> bit & 1]]
    ]
    data = write_rows(base / "train.csv", rows)
    train(
        task=NAME, encoder=base / "encoder", train=data, validation=data, output=base / "model", max_seq_length=16,
        batch_size=8, learning_rate=1e-2, epochs=8, device="cpu", precision="fp32",
    )  # fmt: skip
    return base / "model"


def test_labels_are_learnt_and_thresholds_kept(folder: Path) -> None:
    state = json.loads((folder / "bertune.json").read_text())["task"]
    assert state["labels"] == ["bad", "film", "good"]
    assert len(state["thresholds"]) == 3
    model = bertune.load(folder)
    assert model.task.to_json()["thresholds"] == tuple(state["thresholds"])
    one, two = model.predict(["the good film", "the"])
    assert (one["labels"], two["labels"]) == (["film", "good"], [])
    assert list(one["scores"]) == ["bad", "film", "good"]


def test_thresholds_decide() -> None:
    task = task_from_json({"name": NAME, "options": {}, "labels": ["a", "b"], "thresholds": [0.9, 0.1], "weights": []})
    from bertune.features import Features, Ragged

    ids = Ragged.from_lists([[1]])
    features = Features(ids, ids, np.zeros(1, np.int32))
    (answer,) = task.decode([np.array([1.0, -1.0], np.float32)], features, [LabelledText("s")])
    assert answer["labels"] == ["b"]


def test_metrics_are_scikit_learns(folder: Path) -> None:
    task = bertune.load(folder).task
    generator = np.random.default_rng(0)
    truth, logits = generator.random((20, 3)) < 0.4, generator.normal(size=(20, 3)).astype(np.float32)
    examples = [LabelledText("s", labels=frozenset(np.array(["bad", "film", "good"])[row])) for row in truth]
    from bertune.features import Features, Ragged

    ids = Ragged.from_lists([[1]] * 20)
    features = Features(ids, ids, np.arange(20, dtype=np.int32))
    metrics = task.metrics(list(logits), features, examples)
    given_labels = 1 / (1 + np.exp(-logits)) >= np.array(task.to_json()["thresholds"])
    for average, suffix in (("micro", ""), ("macro", "_macro")):
        assert metrics[f"f1{suffix}"] == pytest.approx(sklearn.metrics.f1_score(truth, given_labels, average=average))
    assert metrics["precision"] == pytest.approx(sklearn.metrics.precision_score(truth, given_labels, average="micro"))
    assert metrics["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, given_labels))


def test_transformers_gives_the_same_probabilities(folder: Path) -> None:
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert theirs.config.problem_type == "multi_label_classification"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    (ours,) = bertune.load(folder, precision="fp32").predict(["a bad film"])
    with torch.inference_mode():
        expected = torch.sigmoid(theirs(**tokenizer("a bad film", return_tensors="pt")).logits[0])
    assert list(ours["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-4)
