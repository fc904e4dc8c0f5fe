"""Training sequences by their place in the user's file."""

from pathlib import Path

import numpy as np
import pytest

from bertune.conformance import LENGTH, tiny_encoder
from bertune.tasks.registry import new_task
from bertune.training.rows import name_rows
from tests.conformance import SAMPLES
from tests.tiny import opinions, write_rows


def named(task_name: str, path: Path, units: list[int], folder: Path) -> str:
    """What a message calls these training sequences."""
    task = new_task(task_name)
    examples = list(task.read(path, labelled=True))
    task = task.fit(examples, path=path, settings={})
    _, tokenizer = tiny_encoder(folder)
    features = task.featurize(examples, tokenizer, LENGTH, purpose="train")
    return name_rows(path, examples, features.example_index[features.rows_of(np.array(units))])


@pytest.mark.parametrize(
    ("name", "told"), [("a.csv", "lines 2, 3, 7"), ("a.jsonl", "lines 1, 2, 6"), ("a.parquet", "rows 1, 2, 6")]
)
def test_lines_and_rows(tmp_path: Path, name: str, told: str) -> None:
    path = write_rows(tmp_path / name, opinions(8))
    assert named("text-classification", path, [5, 1, 0], tmp_path) == f"{path}, {told}"


def test_a_single_line(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.csv", opinions(8))
    assert named("text-classification", path, [3], tmp_path) == f"{path}, line 5"


def test_questions_with_choices_are_units(tmp_path: Path) -> None:
    path = SAMPLES / "choices" / "train.jsonl"
    assert named("multiple-choice", path, [2, 4], tmp_path) == f"{path}, lines 3, 5"


def test_windows_of_a_question(tmp_path: Path) -> None:
    told = named("question-answering", SAMPLES / "handbook" / "train.json", [0], tmp_path)
    assert told == f"{SAMPLES / 'handbook' / 'train.json'}: data[0].paragraphs[0].qas[0]"


def test_a_sentence_begins_at_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("Ada B-PERSON\nsaw O\n\nNo O\none O\n\nBob B-PERSON\n")
    assert named("token-classification", path, [1, 2], tmp_path) == f"{path}, lines 4, 7"


def test_many_are_counted(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.csv", opinions(100))
    assert named("text-classification", path, list(range(100)), tmp_path).endswith("65, … and 36 more")
