"""Thresholds and intervals give the same answers by predict, by the runtime without torch, and by both services.

Probabilities that decide lie far from the thresholds, so that no rounding decides.
"""

import json
from pathlib import Path
from typing import Any

import bertune_runtime
import numpy as np
import pytest
from bertune_runtime.__main__ import main as runtime_main
from starlette.testclient import TestClient

import bertune
from bertune.export.folder import export
from bertune.export.options import ExportOptions
from bertune.serving import app
from bertune.serving.answer_rules import AnswerRules
from tests import tiny
from tests.conformance import SAMPLES
from tests.runtime.test_runtime import assert_equal, lines
from tests.serving.conftest import plain

Capture = pytest.CaptureFixture[str]


def between(numbers: Any, share: float) -> str:
    """A number in the widest gap near that share of the numbers."""
    ordered = np.unique(numbers)
    at = int(share * len(ordered))
    near = ordered[max(0, at - 4) : at + 5]
    widest = int(np.argmax(np.diff(near)))
    return f"{(near[widest] + near[widest + 1]) / 2:.6f}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of three tasks, and the same exported."""
    root = tmp_path_factory.mktemp("rules")
    tiny.write_encoder(root / "encoder")
    rows = tiny.opinions(80, seed=1)
    for row in rows[::7]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    data = {
        "text-classification": (
            tiny.write_rows(root / "opinions.jsonl", tiny.opinions(96)),
            tiny.write_rows(root / "dev.jsonl", rows),
        ),
        "multi-label-classification": (SAMPLES / "topics/train.csv", SAMPLES / "topics/dev.csv"),
        "regression": (SAMPLES / "ratings/train.csv", SAMPLES / "ratings/dev.csv"),
    }
    for task, (train, dev) in data.items():
        bertune.train(
            task=task, encoder=root / "encoder", train=train, validation=dev, output=root / task, max_seq_length=32,
            batch_size=8, learning_rate=1e-2, epochs=2, precision="fp32", device="cpu", report=False,
        )  # fmt: skip
        texts = [{"text": example.text} for example in bertune.load(root / task).task.read(dev, labelled=True)]
        tiny.write_rows(root / f"{task}.jsonl", texts)
        export(ExportOptions(str(root / task), str(root / f"{task}-exported"), precision=["fp32"]))
    return root


def options_for(task: str, how: str, answers: list[dict[str, Any]]) -> dict[str, Any]:
    if how == "interval":
        return {"interval": 0.8}
    if how == "automate_at":
        return {"automate_at": 0.9}
    if task == "multi-label-classification":
        probabilities = [share for one in answers for share in one["scores"].values()]
        return {"threshold": [between(probabilities, 0.6)]}
    cut = between([one["score"] for one in answers], 0.4)
    return {"threshold": [cut] if how == "threshold" else [f"good={cut}", "bad=0"]}


@pytest.mark.parametrize(
    ("task", "how"),
    [
        ("text-classification", "threshold"),
        ("text-classification", "label thresholds"),
        ("text-classification", "automate_at"),
        ("multi-label-classification", "threshold"),
        ("regression", "interval"),
    ],
)
def test_answers_are_the_same_everywhere(task: str, how: str, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    rows = folder / f"{task}.jsonl"
    texts = [row["text"] for row in lines(rows)]
    model = bertune.load(folder / task, precision="fp32")
    without = model.predict(texts)
    options = options_for(task, how, without)
    lists = {name: value if isinstance(value, list) else [str(value)] for name, value in options.items()}
    flags = [part for name, values in lists.items() for part in (f"--{name}", *values)]
    told = ["--model", folder / task, "--input", rows, "--output", tmp_path / "torch.jsonl", "--precision", "fp32"]
    tiny.done(capsys, "predict", *told, *flags)
    expected = lines(tmp_path / "torch.jsonl")
    assert expected != without
    exported = folder / f"{task}-exported"
    told = ["predict", "--model", exported, "--input", rows, "--output", tmp_path / "onnx.jsonl", *flags]
    assert runtime_main([str(part) for part in told]) == 0
    assert_equal(lines(tmp_path / "onnx.jsonl"), expected)

    # Saved with the model, they hold in Python, in an export made of it, and in both services.
    saved = _with(folder / task, options, tmp_path / "saved")
    assert_equal(list(bertune.load(saved, precision="fp32").predict(texts)), expected)
    export(ExportOptions(str(saved), str(tmp_path / "exported"), precision=["fp32"]))
    canaries = (tmp_path / "exported" / "onnx" / "verification.json").read_text()
    assert ('"review"' in canaries) == (task == "text-classification")
    assert ('"low"' in canaries) == (how == "interval")
    runtime = bertune_runtime.load(tmp_path / "exported")
    assert_equal(list(runtime.predict(texts)), expected)
    for served in (bertune.load(saved, precision="fp32"), runtime):
        assert_equal(_asked(app({"m": served}), texts), expected)
    if how != "interval":
        rules = AnswerRules(**lists)
        for served in (model, bertune_runtime.load(exported)):
            assert_equal(_asked(app({"m": served}, rules=rules), texts), expected)


def _with(model: Path, options: dict[str, Any], output: Path) -> Path:
    """The model folder with options of its task saved in it, as `train` saves them."""
    output.mkdir()
    for file in model.iterdir():
        if file.is_file():
            (output / file.name).write_bytes(file.read_bytes())
    record = json.loads((model / "bertune.json").read_text())
    record["task"]["options"] |= options
    (output / "bertune.json").write_text(json.dumps(record))
    return output


def _asked(service: Any, texts: list[str]) -> list[dict[str, Any]]:
    with TestClient(service) as client:
        answer = client.post("/v1/models/m/predict", json={"inputs": texts})
    assert answer.status_code == 200, answer.text
    return plain(answer.json()["predictions"])
