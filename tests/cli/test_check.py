"""`bertune check`: findings, tables, JSON, exit status; and what `train` tells of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import FAST, Row, bertune, done, opinions, refused, train, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]
SAMPLES = Path(__file__).resolve().parents[2] / "src/bertune/samples"
CLEAN = [row | {"text": f"{row['text']} {'abcdefgh'[i % 8]} {i}"} for i, row in enumerate(opinions(400))]


def findings(
    capsys: Capture, folder: Path, rows: list[Row], other: list[Row] | None = None, *more: object
) -> dict[str, dict[str, Any]]:
    """What `check --json` finds, by its code."""
    command = ["check", "--task", "text-classification", "--train", write_rows(folder / "train.csv", rows), "--json"]
    if other is not None:
        command += ["--validation", write_rows(folder / "dev.csv", other)]
    if not (folder / "encoder").exists():
        write_encoder(folder / "encoder", max_position_embeddings=128)
    found = json.loads(done(capsys, *command, "--encoder", folder / "encoder", *more).out)
    return {finding["code"]: finding for finding in found["findings"] if finding["code"] != "unknown-tokens"}


def test_clean_data_has_no_findings(tmp_path: Path, capsys: Capture) -> None:
    assert not findings(capsys, tmp_path, [*CLEAN[:300]], [*CLEAN[300:]])


def test_duplicates_and_contrary_labels(tmp_path: Path, capsys: Capture) -> None:
    rows: list[Row] = [
        *CLEAN,
        CLEAN[0],
        CLEAN[1] | {"label": "bad"},
        CLEAN[3] | {"text": f" {CLEAN[3]['text']}".upper()},
    ]
    found = findings(capsys, tmp_path, rows)
    assert found["duplicates"]["rows"] == 3
    assert found["duplicates"]["places"] == ["line 402 = line 2", "line 403 = line 3", "line 404 = line 5"]
    assert found["conflicting-labels"]["places"] == ["line 403 ≠ line 3"]
    assert found["conflicting-labels"]["severity"] == "warn"
    assert found["conflicting-labels"]["file"] == str(tmp_path / "train.csv")


def test_the_same_text_in_both_files(tmp_path: Path, capsys: Capture) -> None:
    other: list[Row] = [*CLEAN[300:], CLEAN[7], CLEAN[8] | {"label": "good"}]
    found = findings(capsys, tmp_path, [*CLEAN[:300]], other)
    assert found["leak"]["places"] == ["line 102 = line 9", "line 103 = line 10"]
    assert "1 of them with another label" in found["leak"]["what"]


def test_labels(tmp_path: Path, capsys: Capture) -> None:
    rows: list[Row] = [*CLEAN, {"text": "so so", "label": "mixed"}, {"text": "fine indeed", "label": "Good"}]
    other: list[Row] = [{"text": "who knows", "label": "odd"}, {"text": "nobody does", "label": "good"}]
    found = findings(capsys, tmp_path, rows, other)
    assert found["imbalance"]["severity"] == "warn"
    assert "--class-weights balanced" in found["imbalance"]["remedy"]
    assert found["rare-labels"]["places"] == ["line 402", "line 403"]
    assert found["labels-alike"]["rows"] == 201
    assert found["label-only-in-validation"]["severity"] == "error"
    assert found["label-only-in-validation"]["places"] == ["line 2"]
    assert found["label-only-in-training"]["severity"] == "note"


def test_one_label_alone_is_refused_by_training_and_said_so(tmp_path: Path, capsys: Capture) -> None:
    found = findings(capsys, tmp_path, [row | {"label": "x"} for row in CLEAN])
    assert found["refused"]["severity"] == "error"
    assert "two different labels" in found["refused"]["what"]


def test_odd_texts(tmp_path: Path, capsys: Capture) -> None:
    texts = ("", "…", "cafÃ©", "a \ufffd b")
    rows: list[Row] = [*CLEAN, *({"text": text, "label": "bad"} for text in texts)]
    found = findings(capsys, tmp_path, rows)
    expected = ("empty", "near-empty", "mojibake", "replacement-character")
    assert [found[code]["places"] for code in expected] == [["line 402"], ["line 403"], ["line 404"], ["line 405"]]


def test_texts_over_the_limit(tmp_path: Path, capsys: Capture) -> None:
    rows: list[Row] = [*CLEAN, *({"text": "good " * 50 + str(i), "label": "good"} for i in range(100))]
    found = findings(capsys, tmp_path, rows, None, "--max-seq-length", "40")
    assert found["cut"]["severity"] == "warn"
    assert found["cut"]["rows"] == 100
    assert found["cut"]["remedy"] == "--max-seq-length 56"
    assert findings(capsys, tmp_path, rows, None, "--max-seq-length", "64") == {}


def test_a_length_beyond_the_encoders_positions_is_refused(tmp_path: Path, capsys: Capture) -> None:
    assert "refused" not in findings(capsys, tmp_path, [*CLEAN], None, "--max-seq-length", "128")
    found = findings(capsys, tmp_path, [*CLEAN], None, "--max-seq-length", "129")["refused"]
    assert found["severity"] == "error"
    assert found["what"] == f"--max-seq-length 129: {tmp_path / 'encoder'} has only 128 positions"
    assert found["remedy"] == "--max-seq-length 128 or less"
    command = ["--task", "text-classification", "--train", tmp_path / "train.csv", "--encoder", tmp_path / "encoder"]
    command += ["--output", tmp_path / "out", "--max-seq-length", "129"]
    assert found["what"] in refused(capsys, tmp_path, ["train", *command])


def test_rows_of_unknown_tokens_are_named(tmp_path: Path, capsys: Capture) -> None:
    strange = [{"text": text, "label": "bad"} for text in ("好 " * 8 + "film", "一 " * 4 + "bad")]
    rows: list[Row] = [*opinions(20), strange[0], *opinions(9, seed=1), strange[1]]
    data, encoder = write_rows(tmp_path / "train.csv", rows), write_encoder(tmp_path / "encoder")
    command = ["check", "--task", "text-classification", "--train", data, "--encoder", encoder, "--json"]
    told = json.loads(done(capsys, *command).out)["findings"]
    (found,) = [finding for finding in told if finding["code"] == "unknown-tokens"]
    assert (found["rows"], found["places"]) == (2, ["line 22", "line 32"])


def test_strict_status_and_tables(tmp_path: Path, capsys: Capture) -> None:
    write_encoder(tmp_path / "encoder", max_position_embeddings=128)
    clean = write_rows(
        tmp_path / "clean.csv", [row | {"text": f"the film {'is ' * (i % 9)}"} for i, row in enumerate(CLEAN)]
    )
    command = ["check", "--task", "text-classification", "--encoder", tmp_path / "encoder", "--train"]
    rows = [row | {"text": " ".join(["good"] * (i + 1))} for i, row in enumerate(opinions(40))]
    assert bertune(capsys, *command, write_rows(tmp_path / "a.csv", rows), "--strict").status == 0
    assert bertune(capsys, *command, clean).status == 0
    answer = bertune(capsys, *command, clean, "--strict")
    assert answer.status == 1
    shown = "".join(answer.out.split())
    for part in (
        "rowsandlabels",
        "tokens",
        "Suggested:--max-seq-length",
        "--batch-size",
        "█",
        "anotherlabel",
        "line11=",
    ):
        assert part in shown, answer.out


def test_unreadable_data_of_both_files_at_once(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "a.csv").write_text("text,label\na,x,y\n")
    command = ["check", "--task", "text-classification", "--train", tmp_path / "a.csv"]
    refused(capsys, tmp_path, [*command, "--validation", tmp_path / "b.csv"], "a.csv, line 2", "b.csv")
    refused(capsys, tmp_path, ["check", "--task", "text-clasification", "--train", tmp_path / "a.csv"], "no such task")
    refused(capsys, tmp_path, [*command, "--max-seq-length", "1"], "--max-seq-length 1")


@pytest.mark.parametrize(
    ("task", "train", "validation"),
    [
        ("token-classification", "entities/train.conll", "entities/dev.conll"),
        ("question-answering", "handbook/train.json", "handbook/dev.json"),
        ("multiple-choice", "choices/train.jsonl", "choices/dev.jsonl"),
        ("regression", "similarity/train.csv", "similarity/dev.csv"),
        ("multi-label-classification", "topics/train.csv", "topics/dev.csv"),
        ("embedding", "similarity/train.csv", "similarity/dev.csv"),
        ("pretraining", "corpus/handbook.txt", "corpus/handbook.txt"),
    ],
)
def test_every_task(tmp_path: Path, capsys: Capture, task: str, train: str, validation: str) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    files = ["--train", SAMPLES / train, "--validation", SAMPLES / validation]
    found = json.loads(done(capsys, "check", "--task", task, "--encoder", encoder, *files, "--json").out)
    assert found["files"]["train"]["rows"] > 10
    assert found["files"]["train"]["lengths"]["sequences"] >= found["files"]["train"]["rows"]
    assert ("leak" in {finding["code"] for finding in found["findings"]}) == (train == validation)


def test_a_task_of_ones_own(tmp_path: Path, capsys: Capture) -> None:
    page = (SAMPLES.parents[2] / "docs/new-task.md").read_text(encoding="utf-8")
    code = page.partition("<!-- file: ratings.py -->\n```python\n")[2].partition("```")[0]
    (tmp_path / "ratings.py").write_text(code, encoding="utf-8")
    encoder = write_encoder(tmp_path / "encoder")
    files = ["--train", SAMPLES / "ratings/train.csv", "--encoder", encoder]
    found = json.loads(done(capsys, "check", "--task", f"{tmp_path / 'ratings.py'}:Rating", *files, "--json").out)
    assert set(found["files"]["train"]["labels"]) == {"1", "2", "3", "4", "5"}


def test_train_tells_the_worst(tmp_path: Path, capsys: Capture) -> None:
    rows = opinions(32)
    rows[5] = rows[4] | {"label": "good"}
    train(capsys, tmp_path, rows, "--max-steps", "1")
    data = ["--train", tmp_path / "train.jsonl", "--encoder", tmp_path / "encoder", "--output", tmp_path / "again"]
    answer = done(capsys, "train", "--task", "text-classification", *data, *FAST, "--max-steps", "1")
    assert "line 6 ≠ line 5" in answer.err
    assert "bertune check --task text-classification" in answer.err
