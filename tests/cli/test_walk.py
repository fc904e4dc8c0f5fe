"""The whole walk on a tiny encoder: train, evaluate, predict, inspect, convert."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from bertune.model import predicting
from tests.tiny import (
    FAST,
    LEARNING,
    VOCABULARY,
    Row,
    bertune,
    done,
    opinions,
    pairs,
    train,
    weights,
    write_encoder,
    write_rows,
)

Capture = pytest.CaptureFixture[str]


def answers(path: Path) -> list[dict[str, Any]]:
    """Objects of a JSON lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_learn_evaluate_predict(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(96))
    held_out = write_rows(tmp_path / "dev.csv", opinions(32, seed=1))
    options = ["--task", "text-classification", "--encoder", encoder, "--train", data, "--validation", held_out]
    trained = done(capsys, "train", *options, "--output", tmp_path / "model", *LEARNING, "--json")
    result = json.loads(trained.out)
    assert result["accuracy"] == result["f1"] == result["matthews_correlation"] == 1.0
    assert result["steps"] == 120
    assert result["output"] == str(tmp_path / "model")

    evaluated = done(capsys, "evaluate", "--model", tmp_path / "model", "--data", held_out, "--json")
    metrics = json.loads(evaluated.out)
    names = {"accuracy", "f1", "precision", "recall", "matthews_correlation", "loss", "examples_per_second"}
    assert metrics.keys() == names
    assert all(metrics[name] == result[name] for name in names - {"examples_per_second"})

    new = write_rows(tmp_path / "new.csv", [{"text": text} for text in ("film is awful", "film is fine", "")])
    done(capsys, "predict", "--model", tmp_path / "model", "--input", new, "--output", tmp_path / "answers.jsonl")
    first, second, _ = answers(tmp_path / "answers.jsonl")
    assert (first["label"], second["label"]) == ("bad", "good")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet", "csv.gz", "tsv.gz", "jsonl.gz"])
def test_every_format_gives_the_same_model(tmp_path: Path, capsys: Capture, suffix: str) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    made: list[tuple[dict[str, torch.Tensor], str]] = []
    for kind in ("jsonl", suffix):
        data = write_rows(tmp_path / f"data.{kind}", opinions(16))
        output = tmp_path / f"from_{kind}_{len(made)}"
        options = ["--task", "text-classification", "--encoder", encoder, "--train", data, "--output", output]
        done(capsys, "train", *options, *FAST)
        done(capsys, "predict", "--model", output, "--input", data, "--output", output / "answers.jsonl")
        made.append((weights(output), (output / "answers.jsonl").read_text(encoding="utf-8")))
    (one, answer), (other, other_answer) = made
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert answer == other_answer


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("bad", "good"), ["bad", "good"]),
        (("b", "c", "a"), ["a", "b", "c"]),
        ((10, 9, 2), ["2", "9", "10"]),
        ((True, False), ["false", "true"]),
        ((1.0, 0.5), ["0.5", "1"]),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_labels(tmp_path: Path, capsys: Capture, labels: tuple[object, ...], names: list[str], suffix: str) -> None:
    data = write_rows(tmp_path / f"data.{suffix}", opinions(24, labels=labels))
    model = train(capsys, tmp_path, opinions(24, labels=labels), "--train", data, "--validation", data)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {str(i): name for i, name in enumerate(names)}
    assert config["label2id"] == {name: i for i, name in enumerate(names)}
    done(capsys, "predict", "--model", model, "--input", data, "--output", tmp_path / "answers.jsonl")
    found = answers(tmp_path / "answers.jsonl")
    for answer in found:
        scores = answer["scores"]
        assert list(scores) == names
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)
        assert answer["label"] == max(scores, key=scores.__getitem__)
        assert answer["score"] == max(scores.values())
        assert answer.keys() == {"label", "score", "scores"}
    evaluated = done(capsys, "evaluate", "--model", model, "--data", data, "--json")
    in_order = dict(zip(sorted(labels, key=lambda label: (str(type(label)), label)), names, strict=True))
    truth = [in_order[row["label"]] for row in opinions(24, labels=labels)]
    right = [answer["label"] == true for answer, true in zip(found, truth, strict=True)]
    assert json.loads(evaluated.out)["accuracy"] == pytest.approx(sum(right) / 24)


@pytest.mark.parametrize(
    "columns",
    [
        ("sentence1", "sentence2"),
        ("premise", "hypothesis"),
        ("eins", "zwei"),
    ],
)
def test_pairs(tmp_path: Path, capsys: Capture, columns: tuple[str, str]) -> None:
    rows: list[Row] = [dict(zip((*columns, "label"), row.values(), strict=True)) for row in pairs(32)]
    named = ["--text-column", "eins", "--pair_column", "zwei"] if "eins" in columns else []
    model = train(capsys, tmp_path, rows, *named)
    done(
        capsys, "predict", "--model", model, "--input", tmp_path / "train.jsonl", "--output", tmp_path / "paired.jsonl"
    )
    alone = write_rows(tmp_path / "alone.jsonl", [{"text": row[columns[0]]} for row in rows])
    options = ["--text-column", "text", "--pair-column", "text"]
    done(capsys, "predict", "--model", model, "--input", alone, "--output", tmp_path / "alone_out.jsonl", *options)
    assert len(answers(tmp_path / "paired.jsonl")) == 32
    assert answers(tmp_path / "paired.jsonl") != answers(tmp_path / "alone_out.jsonl")


def test_columns_named_otherwise_in_another_file(tmp_path: Path, capsys: Capture) -> None:
    rows: list[Row] = [{"botschaft": row["text"], "ziel": row["label"]} for row in opinions(16)]
    model = train(capsys, tmp_path, rows, "--text-column", "botschaft", "--label-column", "ziel")
    same = write_rows(tmp_path / "same.jsonl", rows)
    other = write_rows(tmp_path / "other.csv", opinions(16))
    named = ["--text-column", "text", "--label-column", "label"]
    one = json.loads(done(capsys, "evaluate", "--model", model, "--data", same, "--json").out)
    two = json.loads(done(capsys, "evaluate", "--model", model, "--data", other, "--json", *named).out)
    assert one["loss"] == two["loss"]


def test_predictions_come_in_order_and_as_a_stream(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = train(capsys, tmp_path, opinions(96), "--epochs", "4")
    some: list[Row] = [{"text": " ".join(["good", "bad", "film"] * (i % 7) + ["x" * (i % 5 + 1)])} for i in range(50)]
    data = write_rows(tmp_path / "some.jsonl", some)

    def scores(path: Path) -> list[object]:
        output = tmp_path / "answers.jsonl"
        done(capsys, "predict", "--model", model, "--input", path, "--output", output, "--precision", "fp32")
        return [answer["scores"]["good"] for answer in answers(output)]

    at_once = scores(data)
    assert len(set(at_once)) > 30  # there are 35 different texts; a few may round to the same six digits
    monkeypatch.setattr(predicting, "CHUNK", 7)
    assert scores(data) == pytest.approx(at_once, abs=2e-6)
    alone = [score for row in some for score in scores(write_rows(tmp_path / "one.jsonl", [row]))]
    assert alone == pytest.approx(at_once, abs=2e-6)


def test_more_rows_than_a_chunk(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(96), "--epochs", "4")
    count = predicting.CHUNK + 3
    data = write_rows(tmp_path / "many.csv", [{"text": ("good", "bad", "film")[i % 3]} for i in range(count)])
    options = ["--output", tmp_path / "answers.jsonl", "--precision", "fp32"]
    done(capsys, "predict", "--model", model, "--input", data, *options)
    found = [answer["score"] for answer in answers(tmp_path / "answers.jsonl")]
    assert len(found) == count
    assert found == pytest.approx([found[i % 3] for i in range(count)], abs=2e-6)
    assert len(set(found[:3])) == 3


def test_answers_to_stdout_or_as_a_table(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(16))
    data = tmp_path / "train.jsonl"
    done(capsys, "predict", "--model", model, "--input", data, "--output", tmp_path / "answers.jsonl")
    printed = done(capsys, "predict", "--model", model, "--input", data, "--output", "-").out
    assert printed == (tmp_path / "answers.jsonl").read_text(encoding="utf-8")
    table = done(capsys, "predict", "--model", model, "--input", data).out
    assert "film" in table
    assert "good" in table


def test_json_is_all_there_is_on_stdout(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options = ["--task", "text-classification", "--encoder", encoder, "--train", data, "--output", tmp_path / "model"]
    for arguments in (
        ["train", *options, *FAST, "--json"],
        ["evaluate", "--model", tmp_path / "model", "--data", data, "--json"],
        ["inspect", tmp_path / "model", "--json"],
    ):
        out = done(capsys, *arguments).out
        assert isinstance(json.loads(out), dict)
        assert out.count("\n") == 1
    assert done(capsys, "train", *options, "--output", tmp_path / "other", *FAST).out == ""


def test_inspect(tmp_path: Path, capsys: Capture) -> None:
    model = train(capsys, tmp_path, opinions(16))
    facts = json.loads(done(capsys, "inspect", tmp_path / "encoder", "--json").out)
    assert facts["family"] == "bert"
    assert facts["sizes"]["hidden_size"] == 16
    assert facts["vocabulary"] == len(VOCABULARY)
    assert facts["casing"] == "lower-cases"
    assert facts["parameters"] == sum(tensor.numel() for tensor in weights(tmp_path / "encoder").values())
    assert facts["special_tokens"]["cls"] == "[CLS] (2)"
    assert facts["sha256"].keys() >= {"model.safetensors", "config.json", "vocab.txt"}
    assert json.loads(done(capsys, "inspect", "--json", model).out)["task"]["labels"] == ["bad", "good"]
    table = done(capsys, "inspect", model).out
    assert "BertForSequenceClassification" in table
    assert "good" in table


def test_convert(tmp_path: Path, capsys: Capture) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    done(capsys, "convert", "--encoder", encoder, "--output", tmp_path / "new" / "folder")
    theirs = AutoModel.from_pretrained(tmp_path / "new" / "folder").state_dict()
    one, other = weights(encoder), weights(tmp_path / "new" / "folder")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(torch.equal(theirs[name], one[name]) for name in one)


def test_a_name_that_is_no_command(capsys: Capture) -> None:
    answer = bertune(capsys, "tain")
    assert (answer.status, answer.out) == (2, "")
    assert "'tain'" in answer.err
    assert "train" in answer.err


def test_without_a_command_or_with_help(capsys: Capture) -> None:
    assert bertune(capsys).status == 2
    for flag in ("--help", "-h", "help"):
        answer = done(capsys, flag)
        assert all(verb in answer.out for verb in ("train", "evaluate", "predict", "inspect", "convert"))
    assert done(capsys, "--version").out.startswith("bertune ")
