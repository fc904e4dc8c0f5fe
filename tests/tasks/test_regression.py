"""Regression: correlations, units, STS-B's files, the folder in transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import bertune
from bertune.errors import InputError
from bertune.tasks.registry import new_task
from bertune.tasks.shared.metrics import pearson, spearman
from bertune.training.train import train
from tests.conformance import SAMPLES
from tests.tiny import write_encoder, write_rows

NUMBERS = st.integers(-5, 5).map(float)


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=20))
def test_correlations_are_scipys(pairs: list[tuple[float, float]]) -> None:
    one, other = np.array(pairs).T
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert (pearson(one, other), spearman(one, other)) == (0.0, 0.0)
        return
    assert pearson(one, other) == pytest.approx(scipy.stats.pearsonr(one, other)[0], abs=1e-9)
    assert spearman(one, other) == pytest.approx(scipy.stats.spearmanr(one, other)[0], abs=1e-9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows: list[dict[str, object]] = [
        {"text": f"{'good ' * (i % 4)}film", "price": 1000 + 50 * (i % 4)} for i in range(48)
    ]
    write_encoder(tmp_path / "encoder")
    return write_rows(tmp_path / "train.csv", rows)


def run(data: Path, name: str = "model", **more: Any) -> Path:
    usual: dict[str, Any] = {
        "task": "regression", "encoder": data.parent / "encoder", "train": data, "validation": data,
        "label_column": "price", "max_seq_length": 16, "batch_size": 8, "learning_rate": 1e-2, "epochs": 6,
        "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    return train(output=data.parent / name, **(usual | more)).output


def test_numbers_far_from_zero_are_learnt_in_their_own_units(folder: Path) -> None:
    model = bertune.load(run(folder, standardize=True, epochs=16), precision="fp32")
    found = [one["score"] for one in model.predict(["film", "good good good film"])]
    assert found == pytest.approx([1000, 1150], abs=20)
    metrics = model.evaluate(folder)
    assert metrics["pearson"] > 0.95
    assert metrics["mae"] <= metrics["rmse"] < 30


def test_without_units_of_its_own_training_begins_at_the_mean(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", logger="bertune"):
        model = bertune.load(run(folder, max_steps=1), precision="fp32")
    assert "--standardize" in caplog.text
    assert model.predict(["film"])[0]["score"] == pytest.approx(1075, abs=5)


def test_transformers_gives_the_same_number(folder: Path) -> None:
    path = run(folder)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    assert theirs.config.num_labels == 1
    assert theirs.config.problem_type == "regression"
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    (ours,) = bertune.load(path, precision="fp32").predict(["a good film"])
    with torch.inference_mode():
        expected = theirs(**tokenizer("a good film", return_tensors="pt")).logits.item()
    assert ours["score"] == pytest.approx(expected, abs=2e-3)  # 1e-4 of a number about 1000


@pytest.mark.parametrize(
    ("value", "told"), [("high", "'high' is not a number"), ("nan", "'nan' is not a number"), ("", "label is missing")]
)
def test_cells_without_a_number(tmp_path: Path, value: str, told: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,score\na,1\nb,{value}\n")
    with pytest.raises(InputError) as error:
        list(new_task("regression").read(path, labelled=True))
    assert f"{path}, line 3, column 'score'" in str(error.value)
    assert told in str(error.value)


def test_stsb_as_glue_ships_it(shared: Path) -> None:
    examples = list(new_task("stsb").read(shared / "data" / "glue" / "STS-B" / "dev.tsv", labelled=True))
    assert (len(examples), examples[1].value) == (1500, 4.75)
    assert all(0 <= example.value <= 5 and example.pair for example in examples)


def test_the_sample_is_read(tmp_path: Path) -> None:
    examples = list(new_task("regression").read(SAMPLES / "similarity" / "dev.csv", labelled=True))
    assert len(examples) == 40
    assert {type(example.value) for example in examples} == {float}
