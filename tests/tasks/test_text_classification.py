"""Text classification: columns, labels, features, answers, metrics."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import EncoderOutput
from bertune.encoder.layout import Layout
from bertune.errors import InputError
from bertune.features import Features, Ragged
from bertune.tasks.options import TextOptions
from bertune.tasks.registry import TASKS, new_task, task_from_json, task_kind
from bertune.tasks.shared.huggingface import labels_of
from bertune.tasks.shared.metrics import classification_metrics
from bertune.tasks.text_classification import TextClassification, TextExample, softmax
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import SPECIAL, VOCABULARY, Row, write_rows

HERE = Path("train.csv")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """Pieces for every English word."""
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    return Tokenizer.from_vocab(tmp_path / "vocab.txt")


def learnt(*labels: str, settings: dict[str, Any] | None = None) -> TextClassification:
    """A task that has seen these labels."""
    examples = [TextExample("a", label=label) for label in labels]
    return TextClassification().fit(examples, path=HERE, settings=settings or {})


def read(path: Path, *, labelled: bool = True, **options: Any) -> list[TextExample]:
    """All examples of a table."""
    return list(TextClassification(options=TextOptions(**options)).read(path, labelled=labelled))


@pytest.mark.parametrize(
    ("row", "options", "expected"),
    [
        ({"text": "a", "label": "x"}, {}, ("a", None, "x")),
        ({"id": 7, "Review": "a", "Sentiment": "x"}, {}, ("a", None, "x")),
        ({"premise": "a", "hypothesis": "b", "gold_label": "x"}, {}, ("a", "b", "x")),
        ({"text": "a", "text_pair": "b", "label": "x"}, {}, ("a", "b", "x")),
        ({"评论": "很好", "标签": 1}, {}, ("很好", None, "1")),
        ({"one": "a", "two": "b", "three": "x"}, {"text_column": "one", "label_column": "three"}, ("a", None, "x")),
        (
            {"one": "a", "two": "b", "three": "x"},
            {"text_column": "one", "pair_column": "two", "label_column": "three"},
            ("a", "b", "x"),
        ),
        ({"text": "a", "label": "b", "y": "x"}, {"label_column": "y"}, ("a", None, "x")),
        ({"sentence1": "a", "sentence2": "b", "label": "x"}, {"text_column": "sentence2"}, ("b", None, "x")),
        ({"text": "a", "label": True}, {}, ("a", None, "true")),
        ({"text": "a", "label": 3.0}, {}, ("a", None, "3")),
        ({"text": "", "label": " x "}, {}, ("", None, "x")),
    ],
)
def test_columns(tmp_path: Path, row: Row, options: dict[str, Any], expected: tuple[str | None, ...]) -> None:
    path = write_rows(tmp_path / "data.jsonl", [row])
    (example,) = read(path, **options)
    assert (example.text, example.pair, example.label) == expected
    (blind,) = read(path, labelled=False, **options)
    assert (blind.text, blind.pair) == expected[:2]


def test_places(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('text,label\n"two\nlines",x\nb,y\n')
    assert [example.place for example in read(path)] == [2, 4]


def test_every_bad_row_is_told(tmp_path: Path) -> None:
    rows: list[Row] = [{"text": "a", "label": None if i % 2 else "x"} for i in range(60)]
    path = write_rows(tmp_path / "data.jsonl", [*rows, {"text": 5, "label": "x"}])
    with pytest.raises(InputError) as error:
        read(path)
    told = str(error.value)
    assert told.startswith("31 problems")
    assert "lines 2, 4, 6, … (30 in all), column 'label': the label is missing" in told
    assert "line 61, column 'text': expected text, found 5" in told
    assert len(read(write_rows(tmp_path / "good.jsonl", rows), labelled=False)) == 60


def test_labels_in_order() -> None:
    assert learnt("b", "a", "b").labels == ("a", "b")
    assert learnt("10", "9", "-1", "2.5").labels == ("-1", "2.5", "9", "10")
    assert learnt("x", "10", "9").labels == ("9", "10", "x")


def test_a_fine_tuned_start_keeps_its_order() -> None:
    order = {"id2label": {"0": "good", "1": "bad"}}
    assert learnt("bad", "good", settings=order).labels == ("good", "bad")
    assert learnt("bad", "good", settings=order).keeps_head(order)
    assert learnt("bad", "mixed", settings=order).labels == ("bad", "mixed")
    assert not learnt("bad", "mixed", settings=order).keeps_head(order)
    made_up = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}
    assert labels_of(made_up) == ()
    assert labels_of({"id2label": {"10": "k", "9": "j"}}) == ("j", "k")
    assert labels_of({}) == ()


def test_labels_that_training_never_saw() -> None:
    task = learnt("a", "b")
    told = task.problems(
        [TextExample("x", label=label, place=place) for place, label in enumerate("acbdc")], Path("dev.csv")
    )
    assert len(told) == 2
    assert all(part in told[0] for part in ("dev.csv, line 1", "'c'", "a, b"))
    assert "line 3" in told[1]


@pytest.mark.parametrize("labels", [[], ["a"], ["a", "a"]])
def test_a_single_class(labels: list[str]) -> None:
    with pytest.raises(InputError, match="two different labels"):
        learnt(*labels)


def test_features(tokenizer: Tokenizer) -> None:
    task = learnt("no", "yes")
    examples = [
        TextExample("good film", None, "yes"),
        TextExample("good", "bad", "no"),
        TextExample("film", "", "no"),
        TextExample("good " * 9, "bad " * 3, "yes"),
    ]
    features = task.featurize(examples, tokenizer, 10, purpose="train")
    read_back = [" ".join(tokenizer.tokens(features.input_ids[i].tolist())) for i in range(4)]
    assert read_back == [
        "[CLS] good film [SEP]",
        "[CLS] good [SEP] bad [SEP]",
        "[CLS] film [SEP]",
        "[CLS] good good good good [SEP] bad bad bad [SEP]",
    ]
    segments = ["".join(map(str, features.segment_ids[i].tolist())) for i in range(4)]
    assert segments == ["0000", "00011", "000", "0000001111"]
    labels = features.targets["label"]
    assert isinstance(labels, np.ndarray)
    assert labels.tolist() == [1, 0, 0, 1]
    assert features.cut.tolist() == [False, False, False, True]
    assert features.example_index.tolist() == [0, 1, 2, 3]
    assert not task.featurize([TextExample("a")], tokenizer, 10, purpose="predict").targets
    assert len(task.featurize([], tokenizer, 10, purpose="predict")) == 0


def test_typed_special_tokens_are_text(tokenizer: Tokenizer) -> None:
    features = learnt("a", "b").featurize([TextExample("[SEP] [MASK]")], tokenizer, 30, purpose="predict")
    pieces = tokenizer.tokens(features.input_ids[0].tolist())
    assert (pieces[0], pieces[-1]) == ("[CLS]", "[SEP]")
    assert not set(pieces[1:-1]) & (set(SPECIAL) - {"[UNK]"})


def test_loss_is_the_sum_of_cross_entropies() -> None:
    logits = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    total, count = learnt("a", "b", "c").loss(logits, {"label": torch.tensor([0, 2])}, Layout.packed([1, 1]))
    expected = -torch.log_softmax(logits, 1)[[0, 1], [0, 2]].sum()
    assert float(total) == pytest.approx(float(expected))
    assert int(count) == 2


def test_head_is_a_linear_layer_on_the_pooled_output() -> None:
    config = EncoderConfig(vocab_size=9, hidden_size=8, num_attention_heads=2)
    torch.manual_seed(0)
    head = learnt("a", "b", "c").new_head(config).eval()
    pooled = torch.randn(5, 8)
    logits = head(EncoderOutput(torch.empty(0), pooled), Layout.packed([1] * 5))
    state = head.state_dict()
    assert torch.allclose(logits, pooled @ state["weight"].T + state["bias"], atol=1e-6)
    assert state["weight"].shape == (3, 8)
    assert float(state["weight"].abs().max()) <= 2 * config.initializer_range
    assert not state["bias"].any()
    head.train()
    dropped = head(EncoderOutput(torch.empty(0), torch.ones(2000, 8)), Layout.packed([1] * 2000))
    assert dropped.unique(dim=0).shape[0] > 10


logit_rows = st.integers(2, 5).flatmap(
    lambda n: st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=n, max_size=n), min_size=1, max_size=9)
)


@given(logit_rows)
def test_answers(rows: list[list[float]]) -> None:
    labels = [f"class {i}" for i in range(len(rows[0]))]
    logits = [np.array(row, np.float32) for row in rows]
    none = Ragged.from_lists([])
    features = Features(none, none, np.arange(len(rows), dtype=np.int32))
    answers = learnt(*labels).decode(logits, features, [TextExample("")] * len(rows))
    assert len(answers) == len(rows)
    expected = torch.tensor(rows, dtype=torch.float64).softmax(1)
    for answer, row, chances in zip(answers, rows, expected.tolist(), strict=True):
        assert list(answer) == ["label", "score", "scores"]
        assert list(answer["scores"]) == labels
        assert list(answer["scores"].values()) == pytest.approx(chances, abs=1e-6)
        assert row[labels.index(answer["label"])] == pytest.approx(max(row), abs=1e-6)
        assert answer["score"] == answer["scores"][answer["label"]]
        json.dumps(answer, allow_nan=False)


def test_no_answers() -> None:
    assert learnt("a", "b").decode([], None, []) == []  # type: ignore[arg-type]


def test_softmax_of_large_numbers() -> None:
    assert softmax(np.array([[1e4, 0.0], [-1e4, -1e4]], np.float32)).tolist() == [[1.0, 0.0], [0.5, 0.5]]


@pytest.mark.filterwarnings("ignore:A single label")
@given(st.integers(2, 4), st.data())
def test_metrics(classes: int, data: st.DataObject) -> None:
    numbers = st.lists(st.integers(0, classes - 1), min_size=20, max_size=20)
    truth, predicted = np.array(data.draw(numbers)), np.array(data.draw(numbers))
    found = classification_metrics(truth, predicted, classes)
    average = "binary" if classes == 2 else "macro"
    options: dict[str, Any] = {"average": average, "zero_division": 0}  # over the classes that occur
    assert found == pytest.approx(
        {
            "accuracy": (truth == predicted).mean(),
            "f1": sklearn.metrics.f1_score(truth, predicted, **options),
            "precision": sklearn.metrics.precision_score(truth, predicted, **options),
            "recall": sklearn.metrics.recall_score(truth, predicted, **options),
            "matthews_correlation": sklearn.metrics.matthews_corrcoef(truth, predicted),
        }
    )


def test_metrics_by_hand() -> None:
    truth, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    found = classification_metrics(truth, predicted, 2)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["precision"] == found["recall"] == found["f1"] == pytest.approx(2 / 3)
    assert found["matthews_correlation"] == pytest.approx((2 * 1 - 1 * 1) / (3 * 3 * 2 * 2) ** 0.5)


@pytest.mark.filterwarnings("ignore:A single label")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("predicted", [[0, 0, 0], [1, 1, 1], [0, 1, 0]])
def test_data_of_one_class(predicted: list[int]) -> None:
    """No warning, and no correlation."""
    found = classification_metrics(np.zeros(3, np.int64), np.array(predicted), 2)
    assert found["accuracy"] == pytest.approx(predicted.count(0) / 3)
    assert (found["f1"], found["matthews_correlation"]) == (0.0, 0.0)


def test_one_class_alone_in_the_data() -> None:
    found = classification_metrics(np.array([1, 1]), np.array([1, 1]), 3)
    assert found["accuracy"] == 1
    assert found["f1"] == 1  # the mean over classes that occur, as in scikit-learn
    assert all(np.isfinite(value) for value in found.values())


def test_json_and_back() -> None:
    task = learnt("b", "a").with_options(TextOptions(text_column="t"))
    again = task_from_json(json.loads(json.dumps(task.to_json())))
    assert isinstance(again, TextClassification)
    assert (again.labels, again.options, again.name) == (("a", "b"), TextOptions("t"), "text-classification")


def test_names_of_tasks() -> None:
    for name in TASKS:
        assert new_task(name).name == name
        assert task_kind(name).Options is TASKS[name].options
    with pytest.raises(InputError, match="text-classification"):
        task_kind("text_klassification")
    with pytest.raises(InputError, match=r"colour.*text_column"):
        new_task("text-classification", {"colour": 1})


def test_summary() -> None:
    answer = {"label": "a", "score": 0.75}
    task = learnt("a", "b")
    assert task.summary(TextExample("one"), answer) == ("one", "a", "0.750")
    assert task.summary(TextExample("one", "two"), answer) == ("one | two", "a", "0.750")
