"""Without torch: masked words, and a task of a user's file that imports torch only where its network is made."""

from pathlib import Path

import pytest

from tests.runtime.test_runtime import assert_equal, lines, train_on, without_torch
from tests.tiny import done, write_encoder, write_rows

Capture = pytest.CaptureFixture[str]
TASK_FILE = """
from dataclasses import dataclass, replace

import numpy as np

from bertune.tasks.base import BaseTask
from bertune.tasks.options import TextColumns
from bertune.tasks.shared.texts import by_example, text_features
from bertune.tasks.text_classification import TextExample, read_table


@dataclass(frozen=True)
class Rating(BaseTask):
    name: str
    options: TextColumns
    stars: int = 0
    metric: str = "accuracy"
    Options = TextColumns

    def read(self, path, *, labelled):
        yield from read_table(path, self.options, labelled)

    def example(self, item):
        return TextExample(item)

    def fit(self, examples, *, path, settings):
        return replace(self, stars=max(int(example.label) for example in examples))

    def featurize(self, examples, tokenizer, max_seq_length, *, purpose):
        targets = {} if purpose == "predict" else {"stars": np.array([int(example.label) for example in examples])}
        return text_features(examples, tokenizer, max_seq_length, targets)

    def new_head(self, config):
        import torch

        class Ordinal(torch.nn.Module):
            def __init__(self, thresholds):
                super().__init__()
                self.score = torch.nn.Linear(config.hidden_size, 1, bias=False)
                self.thresholds = torch.nn.Parameter(torch.linspace(-1.0, 1.0, thresholds))

            def forward(self, output, layout):
                return self.score(output.pooled_output.float()) - self.thresholds

        return Ordinal(self.stars - 1)

    def loss(self, logits, targets, layout):
        import torch

        above = targets["stars"][:, None] > torch.arange(1, self.stars, device=logits.device)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, above.float(), reduction="sum")
        return loss, torch.tensor(len(logits))

    def decode(self, logits, features, examples):
        scores = by_example(logits, features, len(examples))
        return [{"stars": 1 + int((row > 0).sum()), "scores": [float(x) for x in row]} for row in scores]

    def metrics(self, logits, features, examples):
        found = [one["stars"] for one in self.decode(logits, features, examples)]
        return {"accuracy": float(np.mean([int(one.label) == two for one, two in zip(examples, found)]))}
"""


def test_masked_words_answer_as_bertune_predict(installed: Path, tmp_path: Path, capsys: Capture) -> None:
    write_encoder(tmp_path / "encoder")
    text = tmp_path / "text.txt"
    text.write_text("\n".join(["the film is good. the film is fine.", "a film is bad."] * 20) + "\n")
    options = ("--max-seq-length", 24, "--max-steps", 3, "--batch-size", 4, "--validation-share", 0, "--device", "cpu")
    model, exported = tmp_path / "model", tmp_path / "exported"
    done(capsys, "pretrain", "--encoder", tmp_path / "encoder", "--train", text, "--output", model, *options)
    done(capsys, "export", "--model", model, "--output", exported)
    rows = write_rows(tmp_path / "rows.jsonl", [{"text": "the [MASK] is good"}, {"text": "[MASK] film [MASK]"}])
    expected, answers = tmp_path / "expected.jsonl", tmp_path / "answers.jsonl"
    done(capsys, "predict", "--model", model, "--input", rows, "--output", expected, "--precision", "fp32")
    run = without_torch(installed, "predict", "--model", exported, "--input", rows, "--output", answers)
    assert run.returncode == 0, run.stderr
    assert [len(answer["masks"]) for answer in lines(answers)] == [1, 2]
    assert_equal(lines(answers), lines(expected))


@pytest.mark.parametrize("at_the_top", [False, True])
def test_a_task_file_runs_where_it_imports_torch_only_for_its_network(
    at_the_top: bool, installed: Path, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "stars.py"
    file.write_text("import torch\n" + TASK_FILE if at_the_top else TASK_FILE)
    texts = [
        {"text": f"the film is {word}", "label": str(1 + star)} for star, word in enumerate(["bad", "fine", "good"])
    ]
    rows = write_rows(tmp_path / "rows.csv", texts * 4)
    model = train_on(capsys, tmp_path, f"{file}:Rating", rows)
    exported, trusted = tmp_path / "exported", ("--trust-task-file", file)
    done(capsys, "export", "--model", model, "--output", exported, *trusted)
    expected, answers = tmp_path / "expected.jsonl", tmp_path / "answers.jsonl"
    arguments = ("predict", "--model", exported, "--input", rows, "--output", answers)
    run = without_torch(installed, *arguments, *trusted)
    if at_the_top:
        assert run.returncode == 2
        assert "stars.py, line 1: the task file does not run" in run.stderr
        assert "torch is not installed" in run.stderr
        assert not answers.exists()
        return
    assert run.returncode == 0, run.stderr
    done(capsys, "predict", "--model", model, "--input", rows, "--output", expected, "--precision", "fp32", *trusted)
    assert_equal(lines(answers), lines(expected))
    untrusted = without_torch(installed, *arguments)
    assert untrusted.returncode == 2
    assert "--trust-task-file" in untrusted.stderr


@pytest.mark.parametrize("content", ["", "text\n"])
def test_a_file_without_rows_is_refused_as_bertune_does(
    content: str, installed: Path, tmp_path: Path, capsys: Capture
) -> None:
    rows = write_rows(tmp_path / "rows.csv", [{"text": "good", "label": "a"}, {"text": "bad", "label": "b"}])
    model, exported = train_on(capsys, tmp_path, "text-classification", rows), tmp_path / "exported"
    done(capsys, "export", "--model", model, "--output", exported)
    empty, answers = tmp_path / "empty.csv", tmp_path / "answers.jsonl"
    empty.write_text(content)
    run = without_torch(installed, "predict", "--model", exported, "--input", empty, "--output", answers)
    assert run.returncode == 2
    assert ("has columns ('text') but no rows" if content else "is empty: it holds no columns") in run.stderr
    assert not answers.exists()
