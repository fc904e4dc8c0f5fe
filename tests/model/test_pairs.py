"""A model of pairs refuses single texts wherever they come from; one of single texts warns of pairs."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import bertune
from bertune.errors import InputError
from bertune.model.pairs import all_pairs, check_pairs
from bertune.serving import app
from bertune.tasks.text_classification import TextExample
from tests.tiny import bertune as command
from tests.tiny import opinions, pairs, train, write_encoder, write_rows

SINGLE = "is a single text, but this model was trained on pairs of texts alone"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model_of_pairs(capsys: Capture, tmp_path: Path) -> Path:
    return train(capsys, tmp_path, pairs(24))


def test_the_command_line(capsys: Capture, tmp_path: Path, model_of_pairs: Path) -> None:
    single = write_rows(tmp_path / "single.csv", [{"text": "film is good", "label": "yes"}] * 3)
    output = tmp_path / "answers.jsonl"
    answer = command(capsys, "predict", "--model", model_of_pairs, "--input", single, "--output", output)
    assert answer.status == 2
    assert f"line 2 (3 of 3 are): {SINGLE}" in answer.err
    assert not output.exists()
    answer = command(capsys, "evaluate", "--model", model_of_pairs, "--data", single)
    assert answer.status == 2
    assert f"{single}, line 2 (3 of 3 are): {SINGLE}" in answer.err
    named = ("--pair-column", "label")  # any column may be the second text
    command(capsys, "predict", "--model", model_of_pairs, "--input", single, "--output", output, *named)
    assert len(output.read_text().splitlines()) == 3


def test_python_and_http(model_of_pairs: Path) -> None:
    model = bertune.load(model_of_pairs)
    assert len(model.predict([("film is good", "is good"), {"text": "film", "pair": ""}])) == 2
    with pytest.raises(InputError, match=rf"input 1 \(from 0\): {SINGLE}"):
        model.predict([("film is good", "is good"), "film is good"])
    with TestClient(app({"pairs": model_of_pairs})) as client:
        assert client.get("/v1/models/pairs").json()["input"]["kind"] == "pair"
        url = "/v1/models/pairs/predict"
        assert client.post(url, json={"inputs": [["a film", "is good"]]}).status_code == 200
        for body in (["a film"], [["a film", "is good"], {"text": "a film"}], ["a film", "is good"]):
            answer = client.post(url, json={"inputs": body})
            assert answer.status_code == 422
            assert SINGLE in answer.json()["error"]
            assert f"item {len(body) - 1 if body[0] != 'a film' else 0}" in answer.json()["error"]
        for alias, sent in (("/predict", {"inputs": "a film"}), ("/v1/models/pairs/predict", {"inputs": "a film"})):
            assert client.post(alias, json=sent).status_code == 422


def test_validation_data_of_another_form(capsys: Capture, tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    rows = write_rows(tmp_path / "train.jsonl", pairs(24))
    other = write_rows(tmp_path / "dev.jsonl", [{"text": "film", "label": "yes"}, {"text": "is", "label": "no"}])
    options = ["--task", "text-classification", "--encoder", encoder, "--train", rows, "--validation", other]
    options += ["--max-seq-length", "32"]
    answer = command(capsys, "train", *options, "--output", tmp_path / "model")
    assert answer.status == 2
    assert f"{other}, line 1 (2 of 2 are): {SINGLE}" in answer.err


def test_pairs_for_a_model_of_single_texts(capsys: Capture, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = bertune.load(train(capsys, tmp_path, opinions(24)))
    logging.getLogger("bertune").propagate = True
    caplog.clear()
    model.predict(["film"])
    assert "pairs" not in caplog.text
    assert len(model.predict(["film", ("film", "is good")])) == 2
    assert "1 of 2 inputs are pairs of texts, but this model was trained on single texts alone" in caplog.text


def test_a_model_of_both_takes_both(capsys: Capture, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = train(capsys, tmp_path, opinions(24))
    record = json.loads((folder / "bertune.json").read_text())
    del record["data"]["train"]["pairs"]
    (folder / "bertune.json").write_text(json.dumps(record))
    logging.getLogger("bertune").propagate = True
    caplog.clear()
    bertune.load(folder).predict(["film", ("film", "is good")])
    assert "pairs" not in caplog.text


@pytest.mark.parametrize(
    ("examples", "found"),
    [
        ([TextExample("a", "b"), TextExample("a", "")], True),
        ([TextExample("a"), TextExample("a")], False),
        ([TextExample("a"), TextExample("a", "b")], None),
        ([object()], None),
        ([], None),
    ],
)
def test_all_pairs(examples: list[object], found: bool | None) -> None:
    assert all_pairs(examples) is found
    check: Callable[[], None] = lambda: check_pairs(found, examples)  # noqa: E731
    check()
