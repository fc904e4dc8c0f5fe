"""Data frames with answers beside their columns, and predictions that show themselves."""

from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

import bertune
from bertune.errors import InputError
from tests import runs

HOSTILE = "<script>alert(1)</script> good"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("frames")
    runs.start(folder / "run", runs.prepare(folder, "text-classification"))
    return bertune.load(folder / "run", device="cpu")


def test_a_frame_of_pandas_keeps_its_columns_and_index(model: Any) -> None:
    frame = pd.DataFrame({"text": ["good film", "bad"], "label": ["x", "y"], "price": [1.5, 2.5]}, index=["one", "two"])
    found = bertune.predict_frame(model, frame)
    assert list(found.columns) == ["text", "label", "price", "predicted_label", "predicted_score", "predicted_scores"]
    assert list(found.index) == ["one", "two"]
    assert list(frame.columns) == ["text", "label", "price"]
    expected = model.predict(["good film", "bad"])
    assert found["predicted_label"].tolist() == [one["label"] for one in expected]
    assert found["predicted_score"].tolist() == [one["score"] for one in expected]


def test_a_frame_of_polars(model: Any) -> None:
    frame = pl.DataFrame({"text": ["good film", "bad", "the film"]})
    found = bertune.predict_frame(model, frame, prefix="model_")
    assert found.columns == ["text", "model_label", "model_score", "model_scores"]
    assert found["model_label"].to_list() == [one["label"] for one in model.predict(["good film", "bad", "the film"])]
    assert bertune.predict_frame(model, frame.clear()).columns == ["text"]


TEXTS = ["good film", "bad", "the film"]


@pytest.mark.parametrize(
    "index",
    [
        pd.Index([1, 1, 1]),
        pd.Index([3, 2, 1]),
        pd.Index(["a", None, "a"]),
        pd.MultiIndex.from_tuples([(1, "a"), (1, "a"), (float("nan"), "b")], names=["one", "two"]),
        pd.DatetimeIndex(["2026-01-01", "2026-01-01", "2025-01-01"]),
    ],
)
def test_rows_stay_beside_their_answers_whatever_the_index(model: Any, index: Any) -> None:
    frame = pd.DataFrame({"text": TEXTS}, index=index)
    found = bertune.predict_frame(model, frame)
    assert found.index.equals(frame.index)
    assert found["text"].tolist() == TEXTS
    assert found["predicted_score"].tolist() == [one["score"] for one in model.predict(TEXTS)]


def test_columns_named_like_answers_stay(model: Any) -> None:
    frame = pd.DataFrame(
        {"text": TEXTS, "label": ["x", "y", None], "score": [1, 2, 3], "scores": ["", "", ""], 7: [0] * 3}
    )
    found = bertune.predict_frame(model, frame)
    pd.testing.assert_frame_equal(found[frame.columns.tolist()], frame)
    assert found["predicted_label"].tolist() == [one["label"] for one in model.predict(TEXTS)]


@pytest.mark.parametrize("library", [pd, pl])
def test_an_empty_frame_comes_back(model: Any, library: Any) -> None:
    found = bertune.predict_frame(model, library.DataFrame({"text": [], "price": []}))
    assert (list(found.columns), len(found)) == (["text", "price"], 0)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (pd.DataFrame({("text", "a"): ["b"]}), "whose columns have several levels; give each a single name"),
        (pd.DataFrame([["a", "b"]], columns=["text", "text"]), "several columns of the same name: 'text'; rename them"),
        (
            pd.DataFrame({"text": ["a", float("nan"), None]}),
            "the DataFrame, row 2, column 'text': expected text, found None",
        ),
        (
            pd.DataFrame({"text": pd.array(["a", pd.NA], dtype="string")}),
            "row 2, column 'text': expected text, found None",
        ),
        (pd.DataFrame({"text": ["a", 2]}), r"row 2, column 'text': expected text, found 2 \(a number: .*astype\(str\)"),
        (pl.DataFrame({"text": ["a", None]}), "row 2, column 'text': expected text, found None"),
        (pd.DataFrame(index=[1, 2]), "a DataFrame without columns"),
        (["a text"], "takes a DataFrame of pandas or polars, not a list"),
        (pd.DataFrame({"text": ["a"], "predicted_label": ["b"]}), "has predicted_label already"),
        (pd.DataFrame({"price": [1, 2]}), "text"),
    ],
)
def test_what_cannot_be_answered_is_refused(model: Any, frame: Any, told: str) -> None:
    with pytest.raises(InputError, match=told) as raised:
        bertune.predict_frame(model, frame)
    assert "/bertune-" not in str(raised.value)  # a temporary file
    assert "drop_unlabelled" not in str(raised.value)  # an option of training


def test_polars_keeps_labels_that_first_rows_do_not_show() -> None:
    """Of many labels a prediction shows the best ones alone."""
    from bertune.prediction.frames import _polars_column

    found = _polars_column("scores", [{"x": 0.5}] * 300 + [{"y": 1, "x": 0.25}, None])
    assert found[0] == {"x": 0.5, "y": None}
    assert found[300] == {"x": 0.25, "y": 1.0}
    assert found[301] is None or found[301] == {"x": None, "y": None}


def test_a_prefix_is_a_text(model: Any) -> None:
    with pytest.raises(InputError, match="prefix is None; expected a text"):
        bertune.predict_frame(model, pd.DataFrame({"text": ["a"]}), prefix=None)  # type: ignore[arg-type]
    assert "label" in bertune.predict_frame(model, pd.DataFrame({"text": ["a"]}), prefix="")


def test_predictions_are_a_list_that_shows_itself(model: Any) -> None:
    found = model.predict([HOSTILE] * 60)
    shown = found._repr_html_()
    assert isinstance(found, list)
    assert pd.DataFrame(found).shape == (60, 3)
    assert shown.count("<tr>") == 51
    assert "10 more" in shown
    assert "<th>label</th><th>score</th>" in shown


def test_what_predictions_show_is_escaped() -> None:
    from bertune.model.predictions import Predictions

    shown = Predictions([{"<b>": HOSTILE, "scores": {HOSTILE: 0.5}, "none": None, "list": [HOSTILE]}])._repr_html_()
    assert "<script" not in shown
    assert "<b>" not in shown
    assert shown.count("&lt;script&gt;") == 3


def test_results_show_themselves(tmp_path: Path) -> None:
    from bertune.training.train import train

    options = runs.prepare(tmp_path, "text-classification")
    result = train(output=tmp_path / "<b>run", baselines=True, **options)
    shown = result._repr_html_()
    assert "<b>run" not in shown
    assert f"<th>accuracy</th><td>{result.metrics['accuracy']:.4f}</td>" in shown
    assert "<th>majority</th>" in shown
