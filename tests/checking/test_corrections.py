"""Corrected labels find their rows again; data that changed, strange labels and other files are refused."""

import csv
import json
from pathlib import Path

import pytest

import bertune
from bertune.report.options import ReportOptions
from bertune.report.write import write_report
from tests import tiny

Capture = pytest.CaptureFixture[str]
ROWS = [
    {"text": "the film is good", "label": "good"},
    {"text": '=awful, "really"', "label": "good"},
    {"text": "two\nlines, bad", "label": "bad"},
    {"text": "a fine film", "label": "bad"},
]
COLUMNS = ("file", "place", "text", "truth", "suggested", "self_confidence", "correct_label")


def judged(path: Path, data: Path, rows: list[tuple[int, str, str, str]]) -> Path:
    """A file of corrections: line, text, label, correct label."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for place, text, label, correct in rows:
            writer.writerow([data, place, text, label, "", "", correct])
    return path


def command(data: Path, corrections: Path, output: Path) -> list[object]:
    return ["check", "--task", "text-classification", "--train", data, "--apply", corrections, "--output", output]


def labels_of(path: Path) -> list[str]:
    from bertune.tasks.registry import new_task

    return [example.label for example in new_task("text-classification").read(path, labelled=True)]


@pytest.mark.parametrize(("kind", "lines"), [("csv", (3, 6)), ("jsonl", (2, 4))])
@pytest.mark.parametrize("output", ["new.csv", "new.tsv", "new.jsonl"])
def test_labels_are_corrected_and_all_else_stays(
    kind: str, lines: tuple[int, int], output: str, tmp_path: Path, capsys: Capture
) -> None:
    data = tiny.write_rows(tmp_path / f"train.{kind}", ROWS)
    rows = [(lines[0], f"'{ROWS[1]['text']}", "good", "bad"), (lines[1], "a fine film", "bad", "bad")]
    corrections = judged(tmp_path / "suspects.csv", data, rows)
    answer = tiny.done(capsys, *command(data, corrections, tmp_path / output), "--json")
    assert json.loads(answer.out) == {"output": str(tmp_path / output), "rows": 4, "changed": 1, "confirmed": 1}
    assert labels_of(tmp_path / output) == ["good", "bad", "bad", "bad"]
    from bertune.data.tables import open_table

    assert [row.values["text"] for row in open_table(tmp_path / output)] == [row["text"] for row in ROWS]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ((2, "another film", "good", "bad"), "it has changed"),
        ((2, "the film is good", "bad", "good"), "is labelled 'good', not 'bad'"),
        ((2, "the film is good", "good", "Bad"), "no label 'Bad'"),
        ((9, "the film is good", "good", "bad"), "has no row at line 9"),
        ((2, "the film is good", "good", " "), "fill in its column correct_label"),
    ],
)
def test_what_does_not_fit_is_refused(
    row: tuple[int, str, str, str], told: str, tmp_path: Path, capsys: Capture
) -> None:
    data = tiny.write_rows(tmp_path / "train.csv", ROWS)
    corrections = judged(tmp_path / "suspects.csv", data, [row])
    tiny.refused(capsys, tmp_path, command(data, corrections, tmp_path / "new.csv"), told)


def test_a_row_judged_twice_and_other_files_are_refused(tmp_path: Path, capsys: Capture) -> None:
    data = tiny.write_rows(tmp_path / "train.csv", ROWS)
    twice = [(2, "the film is good", "good", "bad")] * 2
    corrections = judged(tmp_path / "suspects.csv", data, twice)
    tiny.refused(capsys, tmp_path, command(data, corrections, tmp_path / "new.csv"), "judged in line 2 already")
    other = judged(tmp_path / "other.csv", tmp_path / "elsewhere.csv", twice[:1])
    tiny.refused(capsys, tmp_path, command(data, other, tmp_path / "new.csv"), "they are about", "elsewhere.csv")
    tiny.refused(capsys, tmp_path, command(data, corrections, tmp_path / "new.parquet"), ".csv, .tsv, .jsonl")
    tiny.refused(capsys, tmp_path, command(data, corrections, data), "already exists")


def test_from_a_report_and_back(tmp_path: Path, capsys: Capture) -> None:
    """Wrong labels, found by the report, judged by a person, are right in the new file; judgements are not lost."""
    tiny.write_encoder(tmp_path / "encoder")
    train = tiny.write_rows(tmp_path / "train.jsonl", tiny.opinions(96))
    rows = [dict(row) for row in tiny.opinions(80, seed=1)]
    true = [row["label"] for row in rows]
    for row in rows[:4]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    dev = tiny.write_rows(tmp_path / "dev.csv", rows)
    run = tmp_path / "run"
    bertune.train(
        task="text-classification", encoder=tmp_path / "encoder", train=train, validation=dev, output=run,
        max_seq_length=32, batch_size=8, learning_rate=1e-2, epochs=10, precision="fp32",
    )  # fmt: skip
    suspects = run / "suspects.csv"
    with suspects.open(newline="") as file:
        listed = list(csv.DictReader(file))
    assert {row["place"] for row in listed} == {"2", "3", "4", "5"}
    with suspects.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]))
        writer.writeheader()
        writer.writerows({**row, "correct_label": row["suggested"]} for row in listed)
    write_report(run, ReportOptions(resamples=100))
    with suspects.open(newline="") as file:
        assert all(row["correct_label"] == row["suggested"] for row in csv.DictReader(file))
    tiny.done(capsys, *command(dev, suspects, tmp_path / "right.csv"))
    assert labels_of(tmp_path / "right.csv") == true
