"""Temperatures of tasks from a user's file: used where its head gives classes, else one line says why not."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertune
from tests import tiny

WRONG = 12
"""Validation rows with a wrong label, of 80: a model that is sure of all is too sure."""
FILE = """
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from bertune.tasks.base import BaseTask
from bertune.tasks.options import TextColumns
from bertune.tasks.shared.texts import by_example, text_features
from bertune.tasks.text_classification import TextExample, read_table, softmax


class Head(nn.Module):
    def __init__(self, config, labels):
        super().__init__()
        self.inner = nn.Linear(config.hidden_size, labels)
        self.answers = nn.Linear(labels, labels)

    def forward(self, output, layout):
        return self.answers(torch.tanh(self.inner(output.pooled_output.float())) * 3)


@dataclass(frozen=True)
class Kind(BaseTask):
    name: str
    options: TextColumns
    labels: tuple = ()
    metric: str = "accuracy"
    Options = TextColumns
    logit_kind = "classes"

    def read(self, path, *, labelled):
        return read_table(path, self.options, labelled)

    def example(self, item):
        return TextExample(item)

    def fit(self, examples, *, path, settings):
        return replace(self, labels=tuple(sorted({one.label for one in examples})))

    def featurize(self, examples, tokenizer, max_seq_length, *, purpose):
        targets = {} if purpose == "predict" else {"label": np.array([self.labels.index(e.label) for e in examples])}
        return text_features(examples, tokenizer, max_seq_length, targets)

    def new_head(self, config):
        return Head(config, len(self.labels))

    def loss(self, logits, targets, layout):
        return nn.functional.cross_entropy(logits, targets["label"], reduction="sum"), torch.tensor(len(logits))

    def decode(self, logits, features, examples):
        rows = softmax(by_example(logits, features, len(examples)))
        return [{"label": self.labels[row.argmax()], "score": float(row.max())} for row in rows]

    def metrics(self, logits, features, examples):
        answers = [self.labels[row.argmax()] for row in by_example(logits, features, len(examples))]
        return {"accuracy": float(np.mean([a == e.label for a, e in zip(answers, examples)]))}
"""
TEXTS = ["the film is good", "awful", "a fine film", "the bad film is the film"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("task-file")
    tiny.write_encoder(root / "encoder")
    tiny.write_rows(root / "train.jsonl", tiny.opinions(96))
    tiny.write_rows(root / "dev.jsonl", tiny.doubtful_opinions(80, WRONG))
    return root


def trained(data: Path, folder: Path, code: str = FILE, **more: Any) -> tuple[Path, Path]:
    """The model's folder, and its task's file."""
    (file := folder / "kinds.py").write_text(code)
    output = folder / f"run{len(more)}"
    bertune.train(
        task=f"{file}:Kind", encoder=data / "encoder", train=data / "train.jsonl", validation=data / "dev.jsonl",
        output=output, max_seq_length=32, batch_size=8, learning_rate=1e-2, epochs=6, precision="fp32", device="cpu",
        report=False, **more,
    )  # fmt: skip
    return output, file


def recorded(model: Path) -> Any:
    return json.loads((model / "bertune.json").read_text()).get("calibration")


def test_scores_are_those_of_logits_at_the_temperature(data: Path, tmp_path: Path) -> None:
    model, file = trained(data, tmp_path)
    without, _ = trained(data, tmp_path, calibration=False)
    (temperature,) = recorded(model)["temperatures"]
    assert recorded(model)["rows"] == 80
    assert temperature != 1
    assert recorded(without) is None
    cool, raw = (bertune.load(one, precision="fp32", trust_task_file=file).predict(TEXTS) for one in (model, without))
    for one, other in zip(cool, raw, strict=True):
        assert one["label"] == other["label"]
        odds = np.log(other["score"] / (1 - other["score"]))
        assert one["score"] == pytest.approx(1 / (1 + np.exp(-odds / temperature)), abs=1e-3)
    losses = [json.loads((one / "metrics.json").read_text())["loss"] for one in (model, without)]
    assert losses[0] < losses[1]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('    logit_kind = "classes"\n', "", "does not say that its logits are those of classes"),
        ("return self.answers(torch.tanh(self.inner(output.pooled_output.float())) * 3)",
         "return self.answers(torch.tanh(self.inner(output.pooled_output.float())) * 3) + self.answers.bias.tanh() + 1",
         "the head Head ends in no linear layer"),
        ('self.labels[row.argmax()]', 'self.labels[int(row.max() * 10_000) % 2]', "answers would change"),
    ],
)  # fmt: skip
def test_one_line_says_why_there_is_none(
    old: str,
    new: str,
    told: str,
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bertune.model.calibration.useful_temperatures", lambda _: np.array([0.2]))
    code = FILE.replace(old, new)
    assert code != FILE
    with caplog.at_level(logging.INFO, "bertune"):
        model, file = trained(data, tmp_path, code)
    assert recorded(model) is None
    (line,) = [record.getMessage() for record in caplog.records if "without a temperature" in record.getMessage()]
    assert told in line
    assert line.startswith("kinds.py:Kind: ")
    assert bertune.load(model, trust_task_file=file).predict(TEXTS)


def test_who_wants_none_is_told_nothing(data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "bertune"):
        trained(data, tmp_path, FILE.replace('    logit_kind = "classes"\n', ""), calibration=False)
    assert "without a temperature" not in caplog.text
