"""`--drop-unlabelled`: rows without a text or a label are left out and counted, for every task."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertune.errors import InputError
from bertune.tasks.registry import new_task

SPAN = {"text": "Ann is here", "entities": [[0, 3, "PER"]]}
QUESTION = {"question": "who?", "context": "Ann is here", "answers": {"text": ["Ann"], "answer_start": [0]}}
CHOICE = {"question": "who?", "choices": ["Ann", "Bob"], "answer": "A"}
CASES: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "embedding": (
        "embedding", {"query": "a", "passage": "b"}, [{"query": "a", "passage": None}, {"query": " ", "passage": "b"}],
    ),
    "embedding with labels": (
        "embedding",
        {"sentence1": "a", "sentence2": "b", "label": 1},
        [{"sentence1": "a", "sentence2": "b", "label": None}, {"sentence1": None, "sentence2": "b", "label": 0}],
    ),
    "tags": (
        "token-classification",
        {"tokens": ["Ann"], "tags": ["B-PER"]},
        [{"tokens": ["Bob"], "tags": None}, {"tokens": [], "tags": ["O"]}],
    ),
    "entities": (
        "token-classification",
        SPAN,
        [SPAN | {"entities": None}, SPAN | {"text": " "}, SPAN | {"text": None}],
    ),
    "questions": (
        "question-answering",
        QUESTION,
        [QUESTION | {"answers": None}, QUESTION | {"question": " "}, QUESTION | {"context": None}],
    ),
    "choices": ("multiple-choice", CHOICE, [CHOICE | {"answer": None}, CHOICE | {"answer": ""}]),
    "several labels": (
        "multi-label-classification", {"text": "a", "labels": ["x"]}, [{"text": None, "labels": ["x"]}],
    ),
    "numbers": ("regression", {"text": "a", "score": 1.5}, [{"text": "a", "score": None}, {"text": "", "score": 1.0}]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_rows_that_lack_something(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name, good, bad = CASES[case]
    rows = [good, *bad, *([good] * 2)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row | {"id": str(i)}) + "\n" for i, row in enumerate(rows)), encoding="utf-8")
    caplog.set_level("INFO", "bertune")
    task = new_task(name, {"drop_unlabelled": True})
    assert len(list(task.read(path, labelled=True))) == 3
    told = " ".join(caplog.messages)
    assert "left out" in told
    assert str(len(bad)) in told
    if case not in ("questions", "choices", "several labels"):
        assert ("row is" if len(bad) == 1 else f"{len(bad)} rows are") in told
    with pytest.raises(InputError):
        list(new_task(name, {"drop_unlabelled": False}).read(path, labelled=True)) and None


@pytest.mark.parametrize("case", ["embedding", "tags", "entities", "questions", "numbers"])
def test_what_was_taken_is_told(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    name, good, _ = CASES[case]
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps(good | {"note": "x"}) + "\n", encoding="utf-8")
    caplog.set_level("INFO", "bertune")
    list(new_task(name).read(path, labelled=True))
    taken = next(message for message in caplog.messages if "from '" in message)
    assert "not read: 'note'" in taken
