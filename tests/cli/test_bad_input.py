"""Bad files and folders: exit status 2, a message that helps, nothing on stdout, nothing left behind."""

import gzip
import json
from pathlib import Path

import pytest
import torch

from bertune.model.use import load
from tests.tiny import FAST, Row, bertune, done, files, opinions, pairs, refused, train, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]

GOOD = "text,label\na good film,good\na bad film,bad\n"


def arguments(folder: Path, data: Path, *more: object) -> list[object]:
    """A training command on a tiny encoder in `folder`."""
    if not (folder / "encoder").exists():
        write_encoder(folder / "encoder")
    options = ["--task", "text-classification", "--encoder", folder / "encoder", "--train", data]
    return ["train", *options, "--output", folder / "model", *FAST, *more]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"", ["a.csv", "empty"]),
        ("a.csv", b"text,label\n", ["a.csv", "no rows"]),
        ("a.csv", b"text,stars_given\na,1\nb,2\n", ["a.csv", "--label-column", "text, stars_given"]),
        ("a.csv", b"one,two,label\na,b,c\n", ["a.csv", "--text-column", "'one', 'two'"]),
        ("a.tsv", b"text\tlabel\na\tx\nb\ty\textra\nc\n", ["a.tsv, line 3", "3 found", "a.tsv, line 4", "1 found"]),
        ("a.csv", b'text,label\na,x\n"b,y\n', ["a.csv, line 3", "quote"]),
        (
            "a.csv",
            "text,label\nä ö ü é è ê,x\n".encode() + b"b\xe9,y\n",
            ["a.csv, line 3", "0xe9", "UTF-8", "--encoding"],
        ),
        ("a.csv", "text,label\na,x\nb,x\n".encode("utf-16"), ["a.csv", "two different labels", "'x'"]),
        ("a.csv", b"text,label\na,x\nb,x\n", ["a.csv", "two different labels", "'x'"]),
        ("a.csv", b"text,label\na,x\nb,\nc,y\nd, \n", ["a.csv, line 3", "line 5", "'label'", "missing"]),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"\n', ["a.jsonl, line 2", "JSON"]),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": 5, "label": 2}\n', ["a.jsonl, line 2", "'text'", "5"]),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"label": 2}\n', ["a.jsonl, line 2", "'text'", "None"]),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b", "label": null}\n', ["a.jsonl, line 2", "'label'"]),
        (
            "a.jsonl",
            b'{"text": "a", "label": 1}\n{"text": "b", "label": [2]}\n{"text": "c", "label": {}}\n',
            ["a.jsonl, line 2", "a.jsonl, line 3", "'label'", "[2]"],
        ),
        ("a.parquet", b"PAR1 no parquet", ["a.parquet"]),
        ("a.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-9], ["a.csv.gz"]),
        ("a.xlsx", b"PK\x03\x04", ["a.xlsx", ".csv", ".parquet"]),
        ("a.csv", b"text,text,label\na,b,c\n", ["a.csv", "'text'", "rename"]),
    ],
)
def test_training_data(tmp_path: Path, capsys: Capture, name: str, content: bytes, told: list[str]) -> None:
    data = tmp_path / name
    data.write_bytes(content)
    refused(capsys, tmp_path, arguments(tmp_path, data), *told)


def test_a_file_that_is_not_there(tmp_path: Path, capsys: Capture) -> None:
    write_rows(tmp_path / "train.csv", opinions(4))
    refused(capsys, tmp_path, arguments(tmp_path, tmp_path / "trian.csv"), "trian.csv", "did you mean train.csv")
    (tmp_path / "nothing").mkdir()
    refused(capsys, tmp_path, arguments(tmp_path, tmp_path / "nothing"), "nothing", "a folder without files of rows")
    refused(capsys, tmp_path, arguments(tmp_path, tmp_path / "*.tsv"), "*.tsv: no file matches this pattern")


def test_validation_data(tmp_path: Path, capsys: Capture) -> None:
    data = write_rows(tmp_path / "train.csv", opinions(8))
    rows: list[Row] = [*opinions(3), {"text": "so so", "label": "mixed"}, {"text": "so", "label": "Good"}]
    other = write_rows(tmp_path / "dev.csv", rows)
    parts = ["dev.csv, line 5", "'mixed'", "dev.csv, line 6", "'Good'", "known: bad, good"]
    refused(capsys, tmp_path, arguments(tmp_path, data, "--validation", other), *parts)
    lacking = write_rows(tmp_path / "lacking.csv", [{"content": "a", "label": "good"}])
    options = ["--validation", lacking, "--text-column", "text"]
    refused(capsys, tmp_path, arguments(tmp_path, data, *options), "lacking.csv", "'text'", "content, label")


def test_both_files_and_an_option_at_once(tmp_path: Path, capsys: Capture) -> None:
    data, other = tmp_path / "train.csv", tmp_path / "dev.tsv"
    data.write_bytes(b"text,label\na,x,y\n")
    other.write_bytes(b"text\tlabel\na\n")
    parts = ["train.csv, line 2", "dev.tsv, line 2", "--batch-size -1"]
    refused(capsys, tmp_path, arguments(tmp_path, data, "--validation", other, "--batch-size", "-1"), *parts)
    parts = ["train.csv, line 2", "dev.tsv, line 2", "--max-seq-length 99"]
    refused(capsys, tmp_path, arguments(tmp_path, data, "--validation", other, "--max-seq-length", "99"), *parts)
    data.write_text(GOOD.replace(",bad", ",good"))
    other.write_text("text\tlabel\na\tbad\n")
    refused(capsys, tmp_path, arguments(tmp_path, data, "--validation", other), "train.csv", "two different labels")


def test_an_output_folder_that_holds_something_else(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(8))
    command = arguments(tmp_path, tmp_path / "train.jsonl")
    refused(capsys, tmp_path, command, f"--output {model}", "another run", "--resume")
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "encoder"], "another run")
    refused(capsys, tmp_path, [*command, "--output", tmp_path / "train.jsonl"], "is a file")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("milk")
    done(capsys, *command, "--output", tmp_path / "notes")
    assert (tmp_path / "notes" / "todo.txt").read_text() == "milk"


def test_a_folder_without_a_model(tmp_path: Path, capsys: Capture) -> None:
    data = write_rows(tmp_path / "data.csv", opinions(4))
    encoder = write_encoder(tmp_path / "encoder")
    absent, without = "there is no such folder", "holds no bertune model (bertune.json is missing)"
    for folder, why in ((tmp_path / "nothing", absent), (tmp_path, without), (encoder, without)):
        for verb, flag in (("evaluate", "--data"), ("predict", "--input")):
            refused(capsys, tmp_path, [verb, "--model", folder, flag, data], f"--model {folder}", why)


def test_data_to_evaluate(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(8))
    strange = write_rows(tmp_path / "strange.csv", [{"text": "so so", "label": "mixed"}])
    evaluate = ["evaluate", "--model", model, "--json", "--data"]
    refused(capsys, tmp_path, [*evaluate, strange], "strange.csv, line 2", "'mixed'", "bad, good")
    unlabelled = write_rows(tmp_path / "unlabelled.csv", [{"text": "so so"}])
    refused(capsys, tmp_path, [*evaluate, unlabelled], "unlabelled.csv", "--label-column")
    refused(capsys, tmp_path, [*evaluate, tmp_path / "none.csv"], "none.csv")
    refused(capsys, tmp_path, [*evaluate, strange, "--batch-size", "0"], "--batch-size 0")
    refused(capsys, tmp_path, [*evaluate, strange, "--precision", "bf17"], "--precision bf17")
    refused(capsys, tmp_path, [*evaluate, strange, "--text-colum", "text"], "--text-colum", "--text-column")


def test_data_to_predict(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(8))
    good = write_rows(tmp_path / "good.csv", [{"text": "so so"}])
    predict = ["predict", "--model", model, "--output", tmp_path / "answers.jsonl", "--input"]
    refused(capsys, tmp_path, [*predict, tmp_path / "none.csv"], "none.csv")
    (tmp_path / "empty").mkdir()
    refused(capsys, tmp_path, [*predict, tmp_path / "empty"], str(tmp_path / "empty"))
    ragged = tmp_path / "ragged.tsv"
    ragged.write_text("text\tother\n" + "a\tb\n" * 5000 + "a\n")
    refused(capsys, tmp_path, [*predict, ragged], "ragged.tsv, line 5002", "1 found")
    (tmp_path / "answers.jsonl").write_text("of another run\n")
    refused(capsys, tmp_path, [*predict, ragged], "ragged.tsv, line 5002")
    nowhere = tmp_path / "no" / "folder" / "answers.jsonl"
    refused(capsys, tmp_path, [*predict, good, "--output", nowhere], str(nowhere.parent))


def test_predictions_into_a_folder(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "part-00000.jsonl").write_text("a part of somebody else's", encoding="utf-8")
    predict = ["predict", "--model", model, "--input", tmp_path / "train.jsonl", "--output", tmp_path / "out"]
    refused(capsys, tmp_path, predict, str(tmp_path / "out"), "not of this command")


def test_labels_do_not_matter_to_predictions(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(8))
    rows: list[Row] = [{"text": "a", "score": 1, "topic": [1]}]
    data = write_rows(tmp_path / "new.jsonl", rows)
    done(capsys, "predict", "--model", model, "--input", data, "--output", tmp_path / "answers.jsonl")
    (answer,) = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
    assert answer == load(model).predict(["a"])[0]


def test_convert(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    command = ["convert", "--encoder", encoder, "--output"]
    refused(capsys, tmp_path, [*command, encoder], f"--output {encoder}", "not empty")
    refused(capsys, tmp_path, [*command, encoder / "config.json"], "not empty")
    refused(capsys, tmp_path, [*command, tmp_path / "new", "--format", "onnx"], "--format onnx", "huggingface, google")
    refused(capsys, tmp_path, ["convert", "--encoder", tmp_path / "x", "--output", tmp_path / "new"], "--encoder", "x")
    (encoder / "model.safetensors").write_bytes(b"broken")
    refused(capsys, tmp_path, [*command, tmp_path / "new"], "model.safetensors")


def test_inspect(tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, tmp_path, ["inspect", tmp_path / "x"], str(tmp_path / "x"), "minilm")
    refused(capsys, tmp_path, ["inspect", tmp_path], str(tmp_path), "no encoder")
    refused(capsys, tmp_path, ["inspect", tmp_path, "--jason"], "--jason", "--json")


def test_an_error_nobody_foresaw_is_no_bad_input(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train(capsys, tmp_path, opinions(8))

    def broken(*_: object, **__: object) -> torch.Tensor:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr("bertune.inference.evaluation.pack_with_companion", broken)
    before = files(tmp_path)
    command = ["predict", "--model", model, "--input", tmp_path / "train.jsonl", "--output", tmp_path / "answers.jsonl"]
    with pytest.raises(ZeroDivisionError):
        bertune(capsys, *command)
    assert files(tmp_path) == before


def test_pairs_where_training_had_single_texts(tmp_path: Path, capsys: Capture) -> None:
    train(capsys, tmp_path, pairs(8))
    rows: list[Row] = [{"sentence1": "a", "sentence2": None, "label": "yes"}, *pairs(2)]
    data = write_rows(tmp_path / "holes.jsonl", rows)
    message = refused(capsys, tmp_path, ["evaluate", "--model", tmp_path / "model", "--data", data], "holes.jsonl")
    assert "line 1, column 'sentence2'" in message
    assert json.loads(data.read_text().splitlines()[0])["sentence2"] is None
