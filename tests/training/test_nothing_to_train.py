"""Runs that could not learn or stop as asked are refused before they begin."""

import json
from pathlib import Path
from typing import Any

import pytest

import bertune
from bertune.errors import InputError
from tests.tiny import opinions, write_encoder, write_rows


def squad(path: Path, answers: list[tuple[str, int]]) -> Path:
    qas = [
        {"id": str(i), "question": "what is it ?", "answers": [{"text": text, "answer_start": start}]}
        for i, (text, start) in enumerate(answers)
    ]
    paragraph = {"context": "the film is good", "qas": qas}
    path.write_text(json.dumps({"version": "1.1", "data": [{"title": "t", "paragraphs": [paragraph]}]}))
    return path


def options(folder: Path, task: str, data: Path) -> dict[str, Any]:
    common = {"max_seq_length": 32, "max_steps": 1, "device": "cpu"}
    return common | {
        "task": task,
        "encoder": write_encoder(folder / "encoder"),
        "train": data,
        "output": folder / "model",
    }


@pytest.mark.parametrize("answers", [[("awful", 4)], [("awful", 0), ("bad film", 3)]])
def test_no_answer_occurs_in_its_context(tmp_path: Path, answers: list[tuple[str, int]]) -> None:
    given = options(tmp_path, "question-answering", squad(tmp_path / "train.json", answers))
    with pytest.raises(InputError, match=r"train .*train.json: none of its \d examples gives a sequence to train on"):
        bertune.train(**given)
    assert not (tmp_path / "model").exists()


def test_one_answer_is_enough(tmp_path: Path) -> None:
    given = options(tmp_path, "question-answering", squad(tmp_path / "train.json", [("awful", 4), ("good", 12)]))
    assert bertune.train(**given).steps == 1


@pytest.mark.parametrize("task", ["text-classification", "regression"])
def test_patience_without_validation(tmp_path: Path, task: str) -> None:
    rows = opinions(16) if task == "text-classification" else opinions(16, labels=(0.5, 1.5))
    given = options(tmp_path, task, write_rows(tmp_path / "train.csv", rows))
    with pytest.raises(InputError, match=r"patience 2: counts evaluations on validation data"):
        bertune.train(**given, patience=2, validation_share=0)
