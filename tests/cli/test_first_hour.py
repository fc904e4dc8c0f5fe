"""The first hour of somebody with one table, exported by an office program, and no validation file."""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bertune.tasks.registry import TASKS, new_task
from tests.tiny import FAST, LEARNING, bertune, done, opinions, refused, train, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]


def export(path: Path, count: int = 80, label: str = "Kategorie") -> Path:
    """Semicolons, Windows-1252, an index without a name, empty cells."""
    with path.open("w", encoding="cp1252", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["", "Datum", "Text", label, "Ort"])
        for i, row in enumerate(opinions(count, labels=("schön", "übel"))):
            empty = i % 20 == 3
            writer.writerow([i, "2024-05-01", row["text"], "" if empty else row["label"], ("Köln", "", "Ulm")[i % 3]])
    return path


def test_one_command_from_an_export_to_an_evaluated_model(tmp_path: Path, capsys: Capture) -> None:
    data, encoder = export(tmp_path / "Export.csv"), write_encoder(tmp_path / "encoder")
    command = ["train", "--task", "text-classification", "--encoder", encoder, "--train", data, "--output"]
    told = done(capsys, *command, tmp_path / "model", "--drop-unlabelled", *LEARNING).err
    assert "read as Windows-1252" in told
    assert "separated by semicolons" in told
    assert "column 0 (from 0) has no name; left out" in told
    assert "text from 'Text', label from 'Kategorie'; not read: 'Datum', 'Ort'" in told
    assert "4 rows are left out, without a text or a label (lines 5, 25, 45, …)" in told
    assert "labels: schön" in told
    assert "of the tokens are unknown" in told
    assert re.search(r"about \d+ (s|min)", told)
    assert "f1 (of 'übel')" in told
    assert "accuracy" in told
    assert "8 of 76 rows are held out" in told
    answer = done(capsys, "evaluate", "--model", tmp_path / "model", "--data", data)  # gaps are left out here too
    assert "recall (of 'übel')" in answer.out
    assert "trained on 68 rows of this file, so these figures are too good" in answer.err
    done(capsys, "report", tmp_path / "model")


def test_columns_without_customary_names(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    rows = [{"Nr": str(i), "Meldung": row["text"], "Sparte": row["label"]} for i, row in enumerate(opinions(40))]
    data = write_rows(tmp_path / "a.csv", rows)
    command = ["train", "--task", "text-classification", "--encoder", encoder, "--output", tmp_path / "out", *FAST]
    refused(capsys, tmp_path, [*command, "--train", data, "--text-column", "meldung"], "did you mean 'Meldung'?")
    told = done(capsys, *command, "--train", data, "--label-column", "Sparte").err
    assert "'Meldung' is the only column of longer texts (--text-column)" in told
    among_customary = write_rows(tmp_path / "zh.csv", [{"评论": row["Meldung"], "评价": row["Sparte"]} for row in rows])
    refused(capsys, tmp_path, ["check", "--task", "text-classification", "--train", among_customary],
            "no column looks like a label", "for example --label-column 评价")  # fmt: skip
    two = write_rows(tmp_path / "two.csv", [row | {"Notiz": f"{row['Meldung']}!"} for row in rows])
    command = ["check", "--task", "text-classification", "--train", two]
    refused(capsys, tmp_path, command, "Longer texts are in 'Meldung', 'Notiz'",
            "for example --text-column Meldung --label-column Sparte")  # fmt: skip


def test_a_missing_encoder_is_told_with_what_is_wrong_in_the_data(tmp_path: Path, capsys: Capture) -> None:
    command = ["train", "--task", "text-classification", "--encoder", "nosuch", "--train", export(tmp_path / "a.csv")]
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "out", "--text-column", "Txt"],
            "--encoder nosuch: no such file or folder", "did you mean 'Text'?")  # fmt: skip
    refused(capsys, tmp_path, ["embed", "--model", "nosuch", "--input", "nofile"], "--model nosuch: no such file")


def test_bad_options_are_refused_before_anything_is_said_of_the_data(tmp_path: Path, capsys: Capture) -> None:
    data, encoder = export(tmp_path / "a.csv"), write_encoder(tmp_path / "encoder")
    command = ["train", "--task", "text-classification", "--encoder", encoder, "--train", data, "--output", "out"]
    answer = bertune(
        capsys, *command, "--max-seq-length", "32", "--epochs", "-1", "--precision", "fp16", "--device", "cpu"
    )
    assert answer.status == 2
    told = answer.err.splitlines()
    assert told[0] == "error: 3 problems:"
    assert "--epochs -1" in told[1]
    assert "--precision fp16: not on a CPU" in told[2]
    assert "the label is missing" in told[3]  # the data are read all the same


def test_places_in_a_workbook_are_rows(tmp_path: Path, capsys: Capture, model: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (["text", "label"], ["the film is good", "good"], ["", "bad"], ["the film is bad", ""]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    command = ["predict", "--model", model, "--input", tmp_path / "a.xlsx", "--output", tmp_path / "a.csv"]
    assert "empty text in column 'text' (row 3)" in done(capsys, *command).err
    evaluate = ["evaluate", "--model", model, "--data", tmp_path / "a.xlsx", "--drop-unlabelled"]
    assert "2 rows are left out, without a text or a label (rows 3, 4)" in done(capsys, *evaluate).err


def test_an_output_that_is_not_written_is_refused(tmp_path: Path, capsys: Capture, model: Path) -> None:
    data = write_rows(tmp_path / "in.csv", opinions(3))
    command = ["predict", "--model", model, "--input", data, "--output"]
    refused(capsys, tmp_path, [*command, tmp_path / "a.xlsx"], "workbooks are not written; name a .csv file")
    told = done(capsys, *command, tmp_path / "a.csv").err
    assert "a.csv: 3 answers" in told
    assert ".parts" not in told


def test_label_columns_that_cannot_be_told_are_shown(tmp_path: Path, capsys: Capture) -> None:
    data, encoder = export(tmp_path / "Export.csv", label="Sparte"), write_encoder(tmp_path / "encoder")
    command = ["train", "--task", "text-classification", "--encoder", encoder, "--train", data, "--output", "out"]
    refused(capsys, tmp_path, command, "Labels may be in 'Sparte' (2 values) or 'Ort' (2 values)",
            "for example --label-column Sparte")  # fmt: skip


@pytest.fixture
def model(tmp_path: Path, capsys: Capture) -> Path:
    return train(capsys, tmp_path, opinions(32))


def test_answers_keep_the_columns_that_are_asked_for(tmp_path: Path, capsys: Capture, model: Path) -> None:
    data = write_rows(tmp_path / "in.csv", [{"id": f"r{i}", "city": "Ulm", **row} for i, row in enumerate(opinions(3))])
    predict = ["predict", "--model", model, "--input", data]
    for name in ("out.csv", "out.csv.gz", "out.parquet", "out.jsonl"):
        done(capsys, *predict, "--output", tmp_path / name, "--columns", "id", "label")
    unpacked = gzip.decompress((tmp_path / "out.csv.gz").read_bytes()).decode()
    opened = [
        list(csv.DictReader((tmp_path / "out.csv").open(encoding="utf-8"))),
        list(csv.DictReader(unpacked.splitlines())),
        pq.read_table(tmp_path / "out.parquet").to_pylist(),
        [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()],
    ]
    for rows in opened:
        assert [row["id"] for row in rows] == ["r0", "r1", "r2"]
        assert list(rows[0])[:3] == ["id", "input_label", "label"]
        assert "city" not in rows[0]
    refused(capsys, tmp_path, [*predict, "--output", tmp_path / "no.csv", "--columns", "idd"],
            "there is no column 'idd'", "did you mean 'id'?")  # fmt: skip
    refused(capsys, tmp_path, [*predict, "--output", "no.csv", "--columns", "id", "--keep-columns"], "leave one out")


def test_a_stopped_prediction_leaves_no_half_file(tmp_path: Path, capsys: Capture, model: Path) -> None:
    data = write_rows(tmp_path / "in.csv", opinions(40_000))
    out = tmp_path / "out.csv"
    command = [sys.executable, "-m", "bertune", "predict", "--model", str(model), "--input", str(data)]
    command += ["--output", str(out), "--rows-per-part", "500"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    parts = tmp_path / "out.csv.parts"
    deadline = time.monotonic() + 60
    while not list(parts.glob("_parts/part-*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 143, told
    assert not out.exists()
    assert not list(tmp_path.rglob(".writing-*"))
    assert "interrupted by SIGTERM; answers to " in told
    assert "go on with the same command and --resume" in told
    done(capsys, *command[3:], "--resume")
    assert len(out.read_text(encoding="utf-8").splitlines()) == 40_001
    assert not parts.exists()


def test_help_shows_the_task_s_own_defaults(capsys: Capture) -> None:
    def told(*arguments: str) -> str:
        with pytest.raises(SystemExit):
            bertune(capsys, *arguments, "--help")
        return " ".join(capsys.readouterr().out.split())

    assert "longest sequence in tokens, special tokens included (default: 384)" in told(
        "train", "--task", "question-answering"
    )
    assert "metric by which the best model is picked (default: matthews_correlation)" in told("train", "--task", "cola")
    assert "highest learning rate (default" not in told("train")


@pytest.mark.parametrize("name", TASKS)
def test_defaults_of_help_are_the_task_s(name: str) -> None:
    made = new_task(name)
    assert (TASKS[name].defaults, TASKS[name].metric) == (made.defaults, made.metric)


def test_help_of_predict_is_about_prediction(capsys: Capture, model: Path) -> None:
    with pytest.raises(SystemExit):
        bertune(capsys, "predict", "--model", model, "--help")
    told = capsys.readouterr().out
    assert "--text-column" in told
    for name in ("--focal-gamma", "--label-smoothing", "--class-weights", "--layers"):
        assert name not in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["predict", "--model", "nosuch", "--input", "x", "--text-column", "t"], "--model nosuch: there is no such"),
        (["evaluate", "--model", "nosuch", "--data", "x", "--label-colum", "t"], "--model nosuch: there is no such"),
        (["inspect", "nosuch"], "error: nosuch: no such file or folder"),
        (["report", "nosuch"], "error: nosuch: there is no such folder"),
        (["compare", "nosuch", "neither"], "error: nosuch: there is no such folder"),
        (
            ["train", "--task", "mrpc", "--encoder", "minilm", "--train", "no.tsv", "--output", "o"],
            "--train no.tsv: no such file",
        ),
    ],
)
def test_what_is_missing_is_named_as_it_was_typed(
    tmp_path: Path, capsys: Capture, arguments: list[str], told: str
) -> None:
    refused(capsys, tmp_path, arguments, told)


def test_missing_data_is_named_before_the_model_is_loaded(tmp_path: Path, capsys: Capture, model: Path) -> None:
    (model / "model.safetensors").write_bytes(b"damaged")
    refused(
        capsys,
        tmp_path,
        ["evaluate", "--model", model, "--data", tmp_path / "nosuch.csv"],
        "--data",
        "nosuch.csv: no such file",
    )


def test_a_start_from_a_finished_run_tells_one_thing_of_its_head(tmp_path: Path, capsys: Capture, model: Path) -> None:
    data = write_rows(tmp_path / "more.csv", opinions(16, seed=5))
    command = ["train", "--task", "text-classification", "--encoder", model, "--train", data]
    told = done(capsys, *command, "--output", tmp_path / "again", *FAST).err
    assert "head: reused from" in told
    assert "not used" not in told


def test_a_run_that_was_not_validated_says_so_in_its_table(tmp_path: Path, capsys: Capture) -> None:
    data, encoder = write_rows(tmp_path / "all.csv", opinions(16)), write_encoder(tmp_path / "encoder")
    told = done(capsys, "train", "--task", "text-classification", "--encoder", encoder, "--train", data,
                "--output", tmp_path / "out", *FAST, "--validation-share", "0").err  # fmt: skip
    assert "how good it is was not measured" in " ".join(told.split())


def test_a_collapsed_run_fails(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    train_data, dev = write_rows(tmp_path / "a.csv", opinions(96)), write_rows(tmp_path / "b.csv", opinions(32, seed=1))
    command = ["train", "--task", "text-classification", "--encoder", encoder, "--train", train_data]
    command += ["--validation", dev, "--output", tmp_path / "out", *FAST, "--epochs", "5"]
    answer = bertune(capsys, *command, "--learning-rate", "5e-2", "--seed", "3", "--precision", "fp32")
    assert answer.status == 1
    assert answer.err.splitlines()[-1].startswith(f"error: {tmp_path}/out: the model collapsed (every validation row")
