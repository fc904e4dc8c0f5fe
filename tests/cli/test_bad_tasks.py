"""Bad input of every task through `bertune train`: status 2, file and line, nothing written."""

import json
from pathlib import Path

import pytest

from tests.tiny import done, opinions, refused, train, write_encoder

GOOD_ENTITY = {"text": "the film", "entities": [[4, 8, "X"]]}
QUESTION = {"context": "the film is good", "choices": ["good", "bad"], "answer": 0}


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


CASES = {
    "tags that do not match tokens": (
        "token-classification",
        "a.jsonl",
        lines({"tokens": ["a", "b"], "tags": ["B-X", "O"]}, {"tokens": ["a", "b"], "tags": ["O"]}),
        "line 2: 2 tokens but 1 tags; every token needs one tag",
    ),
    "a token without a tag": ("token-classification", "a.conll", "a B-X\nb\n", "line 2: 1 columns, but line 1 has 2"),
    "illegal BIO": (
        "token-classification", "a.conll", "a B-X\nb O\nc I-X\n", "line 3: 'c': 'I-X' may not follow 'O'",
    ),
    "illegal BIO in rows": (
        "token-classification",
        "a.jsonl",
        lines({"tokens": ["a", "b"], "tags": ["B-X", "I-Y"]}),
        "line 1, token 1: 'b': 'I-Y' may not follow 'B-X'",
    ),
    "offsets outside the text": (
        "token-classification",
        "a.jsonl",
        lines(GOOD_ENTITY, {"text": "the film", "entities": [[4, 9, "X"]]}),
        "line 2: entity [4, 9, 'X']: is outside the text, which has characters 0 to 8",
    ),
    "overlapping entities": (
        "token-classification",
        "a.json",
        json.dumps([GOOD_ENTITY, {"text": "the film", "entities": [[0, 8, "X"], [4, 8, "Y"]]}], indent=1),
        "overlap: X 'the film' (0 to 8) and Y 'film' (4 to 8)",
    ),
    "a choice list of the wrong size": (
        "multiple-choice",
        "a.jsonl",
        lines(QUESTION, QUESTION | {"choices": ["good"]}),
        "line 2: 1 choices found, expected at least 2",
    ),
    "an answer that is not a choice": (
        "multiple-choice", "a.jsonl", lines(QUESTION, QUESTION | {"answer": 2}), "line 2: the answer is 2; expected",
    ),
    "no number": ("regression", "a.csv", "text,score\na,1\nb,x\n", "line 3, column 'score': 'x' is not a number"),
    "a list that is none": (
        "multi-label-classification", "a.csv", 'text,labels\na,x\nb,"[x"\n', "line 3, column 'labels'",
    ),
    "half a pair": ("embedding", "a.csv", "text1,text2\na,b\nc,\n", "line 3, column 'text2': an empty text"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_rows(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task, name, content, told = CASES[case]
    write_encoder(tmp_path / "encoder")
    path = tmp_path / name
    path.write_text(content)
    command = [
        "train",
        "--task",
        task,
        "--encoder",
        tmp_path / "encoder",
        "--train",
        path,
        "--output",
        tmp_path / "out",
    ]
    refused(capsys, tmp_path, command, path, told)


def test_a_wrong_number_of_choices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(lines(QUESTION, QUESTION))
    command = ["train", "--task", "multiple-choice", "--encoder", write_encoder(tmp_path / "encoder"), "--train", path]
    told = "line 1: 2 choices found, expected 4 (--choices)"
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "out", "--choices", 4], path, told)


def test_a_task_file_that_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every missing piece is named, before data are looked at."""
    file = tmp_path / "mine.py"
    begin = "from dataclasses import dataclass\n\n@dataclass(frozen=True)\n"
    file.write_text(f"{begin}class Mine:\n    name: str\n    options: object\n")
    command = ["train", "--task", f"{file}:Mine", "--encoder", "minilm", "--train", "absent.csv", "--output", "out"]
    missing = ["'metric'", *(f"lacks the method {name}(" for name in NEEDED)]
    refused(capsys, tmp_path, command, f"{file}, class Mine: ", *missing)


NEEDED = ("read", "featurize", "new_head", "loss", "decode", "metrics")


def test_options_that_only_other_tasks_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a task its options cannot be known; with one, the nearest of its own is named."""
    command = ["train", "--encoder", "minilm", "--train", "a.csv", "--output", "out", "--text-column", "t"]
    told = refused(capsys, tmp_path, command, "needs --task", "--text-column depends on --task; say --task too")
    assert "did you mean" not in told
    with_task = [*command, "--task", "question-answering"]
    refused(capsys, tmp_path, with_task, "no option --text-column; did you mean --context-column?")


def test_a_trained_models_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What decides its form stays; the rest may be said anew, and must be legal."""
    folder = train(capsys, tmp_path, opinions(16))
    command = ["evaluate", "--model", folder, "--data", tmp_path / "train.jsonl"]
    refused(capsys, tmp_path, [*command, "--layers", "mix"], "--layers mix: the model was trained with last")
    refused(
        capsys, tmp_path, [*command, "--long-text", "x"], "--long-text x: must be one of truncate, head-tail, window"
    )
    done(capsys, *command, "--long-text", "window")
