"""What Python programs hold is read by its columns or refused; never are names of columns taken for texts."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import yaml

import bertune
from bertune.data.in_memory import as_file, as_items, as_table
from bertune.errors import InputError
from bertune.model.use import Model
from bertune.tasks.registry import new_task
from tests.tiny import opinions, write_encoder

TEXTS = ["a good film", "a bad film", "the film is fine"]
ROWS = [{"text": text, "label": label} for text, label in zip(TEXTS, ["good", "bad", "good"], strict=True)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model for single texts, trained from a frame."""
    folder = tmp_path_factory.mktemp("model")
    frame = pd.DataFrame(opinions(48))
    usual: dict[str, Any] = {"max_seq_length": 32, "batch_size": 8, "epochs": 2, "learning_rate": 1e-2, "device": "cpu"}
    bertune.train(
        task="text-classification",
        encoder=write_encoder(folder / "encoder"),
        train=frame,
        validation=pl.DataFrame(opinions(24)),
        output=folder / "out",
        **usual,
    )
    return bertune.load(folder / "out")


def features() -> datasets.Features:
    """Of a dataset whose labels are numbers with names."""
    return datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])})


class Named(NamedTuple):
    """As `DataFrame.itertuples(index=False)` makes them."""

    text: str
    label: str


HELD: dict[str, Callable[[], Any]] = {
    "list": lambda: list(TEXTS),
    "tuple": lambda: tuple(TEXTS),
    "generator": lambda: (text for text in TEXTS),
    "iterator": lambda: iter(TEXTS),
    "keys of a dictionary": lambda: dict.fromkeys(TEXTS).keys(),
    "pandas frame": lambda: pd.DataFrame(ROWS),
    "pandas frame with an index of its own": lambda: pd.DataFrame(ROWS, index=[7, 7, 9]),
    "pandas frame of one column": lambda: pd.DataFrame({"Review": TEXTS}),
    "pandas categories": lambda: pd.DataFrame({"text": pd.Categorical(TEXTS)}),
    "pandas column": lambda: pd.DataFrame(ROWS)["text"],
    "polars frame": lambda: pl.DataFrame(ROWS),
    "polars lazy frame": lambda: pl.DataFrame(ROWS).lazy(),
    "polars column": lambda: pl.DataFrame(ROWS)["text"],
    "arrow table": lambda: pa.Table.from_pylist(ROWS),
    "arrow batch": lambda: pa.RecordBatch.from_pylist(ROWS),
    "arrow column": lambda: pa.Table.from_pylist(ROWS)["text"],
    "dataset": lambda: datasets.Dataset.from_list(ROWS),
    "dataset with classes": lambda: datasets.Dataset.from_list(ROWS).cast(features()),
    "dataset, rows chosen": lambda: datasets.Dataset.from_list([*ROWS, *ROWS]).select(range(3)),
    "dataset as a stream": lambda: datasets.Dataset.from_list(ROWS).to_iterable_dataset(),
    "dataset's column": lambda: datasets.Dataset.from_list(ROWS)["text"],
    "array": lambda: np.array(TEXTS),
    "array of objects": lambda: np.array(TEXTS, object),
    "array of one column": lambda: np.array([[text] for text in TEXTS]),
    "structured array": lambda: np.array([(text, 1) for text in TEXTS], [("text", "U40"), ("n", "i4")]),
    "mapping of columns": lambda: {"text": TEXTS, "label": [1, 0, 1]},
    "rows": lambda: [{"text": text} for text in TEXTS],
    "rows under another customary name": lambda: [{"review": text} for text in TEXTS],
    "named tuples": lambda: pd.DataFrame(ROWS)[["text", "label"]].itertuples(index=False),
}


@pytest.mark.parametrize("held", HELD)
def test_texts_come_from_their_column(model: Model, held: str) -> None:
    answers = model.predict(HELD[held]())
    assert answers == model.predict(TEXTS)


PAIRS = [("film is good", "is good x"), ("film is bad", "is good y")]
PAIR_ROWS = [{"sentence1": one, "sentence2": two, "idx": i} for i, (one, two) in enumerate(PAIRS)]


@pytest.mark.parametrize(
    "items",
    [
        pd.DataFrame(PAIR_ROWS),
        pl.DataFrame(PAIR_ROWS),
        datasets.Dataset.from_list(PAIR_ROWS),
        PAIR_ROWS,
        np.array(PAIRS),
        [list(pair) for pair in PAIRS],
        {"premise": [one for one, _ in PAIRS], "hypothesis": [two for _, two in PAIRS]},
    ],
)
def test_pairs_come_from_their_columns(model: Model, items: Any) -> None:
    assert model.predict(items) == model.predict(PAIRS)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "set": (lambda: set(TEXTS), r"sorted\(texts\)"),
    "single text": (lambda: "a good film", r"write \[item\]"),
    "bytes": (lambda: b"a good film", r"write \[item\]"),
    "single mapping": (lambda: {"text": "a good film"}, r"write \[item\]"),
    "splits": (lambda: datasets.DatasetDict({"test": datasets.Dataset.from_list(ROWS)}), r"data\['test'\]"),
    "no column of text": (lambda: pd.DataFrame({"a": TEXTS, "b": TEXTS}), "'a', 'b'"),
    "no columns": (lambda: pd.DataFrame(index=TEXTS), "without columns"),
    "no rows": (lambda: pd.DataFrame({"text": []}), "no rows"),
    "one name twice": (lambda: pd.DataFrame([["x", "y"]], columns=["text", "text"]), "'text'"),
    "columns of two levels": (lambda: pd.DataFrame([["x"]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "levels"),
    "numbers": (lambda: np.arange(3), "numbers"),
    "tensor of tokens": (lambda: torch.tensor([[101, 102]]), "neither a text"),
    "a missing text": (lambda: pd.DataFrame({"text": ["a", None]}), "the DataFrame, row 2, column 'text'"),
    "a missing text in a column": (lambda: pd.Series(["a", None]), "neither a text"),
    "columns of two lengths": (lambda: {"text": ["a", "b"], "label": ["x"]}, "different lengths"),
    "nothing": (lambda: None, "NoneType"),
    "a number": (lambda: 3, "int"),
    "bytes in a column": (lambda: pd.DataFrame({"text": [b"x"]}), "'bytes'"),
    "groups": (lambda: pd.DataFrame(ROWS).groupby("label"), "neither a text"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_meant_is_refused(model: Model, case: str) -> None:
    make, told = REFUSED[case]
    with pytest.raises(InputError, match=told):
        model.predict(make())


def test_a_model_is_trained_and_evaluated_on_frames(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = opinions(24)
    from_file = tmp_path / "rows.jsonl"
    pd.DataFrame(rows).to_json(from_file, orient="records", lines=True)
    expected = model.evaluate(from_file)
    for data in (pd.DataFrame(rows), pl.DataFrame(rows), rows, datasets.Dataset.from_list(rows)):
        found = model.evaluate(data)
        assert {k: v for k, v in found.items() if "second" not in k} == pytest.approx(
            {k: v for k, v in expected.items() if "second" not in k}
        )
    with pytest.raises(InputError, match="list of mappings"):
        model.evaluate(["a text"])


def test_a_run_from_a_frame_is_repeated_by_its_run_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))
    options: dict[str, Any] = {"max_seq_length": 16, "epochs": 1, "device": "cpu", "encoder": tmp_path / "encoder"}
    write_encoder(tmp_path / "encoder")
    frame = datasets.Dataset.from_list(opinions(16)).cast(features())
    with caplog.at_level(logging.INFO):
        bertune.train(task="text-classification", train=frame, output=tmp_path / "out", **options)
    tree = yaml.safe_load((tmp_path / "out" / "run.yaml").read_text())
    assert Path(tree["train"]).is_file()
    assert tree["train"] in caplog.text
    again = bertune.train(task="text-classification", train=frame, output=tmp_path / "out", resume=True, **options)
    assert again.steps == 1
    assert tuple(bertune.load(tmp_path / "out").task.to_json()["labels"]) == ("bad", "good")
    with pytest.raises(InputError, match="without any table"):
        bertune.train(task="text-classification", train=datasets.DatasetDict(), output=tmp_path / "no", **options)


def test_vectors_of_frames(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    expected = bertune.embed(TEXTS, encoder)
    for held in (pd.DataFrame(ROWS), pl.DataFrame(ROWS)["text"], np.array(TEXTS), iter(TEXTS), {"text": TEXTS}):
        np.testing.assert_array_equal(bertune.embed(held, encoder), expected)
    with pytest.raises(InputError, match=r"data\['sentence1'\]"):
        bertune.embed(pd.DataFrame(PAIR_ROWS), encoder)
    with pytest.raises(InputError, match=r"data\['NAME'\]"):
        bertune.embed(pd.DataFrame({"a": TEXTS, "b": TEXTS}), encoder)
    with pytest.raises(InputError, match=r"write \[text\]"):
        bertune.embed("a text", encoder)


def test_questions_and_entities_of_a_dataset_are_read_as_from_a_file() -> None:
    squad = [
        {"id": "a", "question": "who?", "context": "ann ran", "answers": {"text": ["ann"], "answer_start": [0]}},
    ]
    table = as_table(datasets.Dataset.from_list(squad))
    assert table is not None
    with as_file(table) as path:
        (example,) = new_task("question-answering").read(path, labelled=True)
    assert example.answers[0].text == "ann"
    names = datasets.Sequence(datasets.ClassLabel(names=["O", "B-PER"]))
    tagged = datasets.Dataset.from_dict({"tokens": [["ann", "ran"]], "ner_tags": [[1, 0]]})
    tagged = tagged.cast_column("ner_tags", names)
    table = as_table(tagged)
    assert table is not None
    with as_file(table) as path:
        (example,) = new_task("token-classification").read(path, labelled=True)
    assert [(entity.label, entity.start, entity.end) for entity in example.entities] == [("PER", 0, 3)]


def test_numbers_and_missing_values_keep_their_kind() -> None:
    frame = pd.DataFrame(
        {"text": ["a", "b"], "n": [1, None], "x": [0.5, np.nan], "t": pd.to_datetime(["2020-01-01", None]), 3: [1, 2]}
    )
    table = as_table(frame)
    assert table is not None
    with as_file(table) as path:
        rows = path.read_text().splitlines()
    assert rows[0] == '{"text": "a", "n": 1.0, "x": 0.5, "t": {"type": "Timestamp"}, "3": 1}'
    assert rows[1] == '{"text": "b", "n": null, "x": null, "t": null, "3": 2}'
    assert list(as_items([Named("a", "b")], "predict")) == [{"text": "a", "label": "b"}]
