"""Every task that bertune ships passes the shared checks on its sample data."""

from pathlib import Path
from typing import Any

import pytest

from bertune.tasks.registry import TASKS
from tests.conformance import SAMPLES, Case, each_check

CASES = [
    Case(
        "text-classification",
        SAMPLES / "intents" / "train.csv",
        bad=(("text,label\na,b\nc,\n", "line 3"), ("text,label\na,b\n", "at least two different labels")),
    ),
    Case(
        "question-answering",
        SAMPLES / "handbook" / "train.json",
        {"max_query_length": 24},
        bad=(('{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": "q7"}]}]}]}', "qas[0].question is missing"),),
    ),
    Case(
        "regression",
        SAMPLES / "similarity" / "train.csv",
        bad=(
            ("sentence1,sentence2,score\na,b,1\na,b,c\n", "line 3, column 'score': 'c' is not a number"),
            ("text,score\na,1\nb,1\n", "every number is 1"),
        ),
    ),
    Case("stsb", SAMPLES / "similarity" / "train.csv", {"standardize": True}),
    Case(
        "multi-label-classification",
        SAMPLES / "topics" / "train.csv",
        bad=(("text,labels\na,\nb,\n", "no text has a label"), ('text,labels\na,"[b"\n', "line 2, column 'labels'")),
    ),
    Case(
        "multiple-choice",
        SAMPLES / "choices" / "train.jsonl",
        bad=(
            ('{"context": "a", "choices": ["b", "c"], "answer": 2}\n', "line 1: the answer is 2; expected 0 to 1"),
            ('{"context": "a", "choices": ["b"], "answer": 0}\n', "line 1: 1 choices found"),
        ),
    ),
    Case(
        "embedding",
        SAMPLES / "similarity" / "train.csv",
        bad=(
            ("text\na\nb\n", "only one column of text"),
            ("sentence1,sentence2\na,\n", "line 2, column 'sentence2': an empty text"),
        ),
    ),
]


@each_check
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.task)
def test_conforms(case: Case, check: Any, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_no_task_is_left_out() -> None:
    elsewhere = {"token-classification", "pretraining"}  # in files of their own
    glue = {name for name, known in TASKS.items() if known.home.endswith("glue:GLUE")}  # texts by other columns
    assert {case.task for case in CASES} | elsewhere | glue >= TASKS.keys()
