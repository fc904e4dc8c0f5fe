"""A file is tokenized once, a long one while training runs; whatever the way, the model is the same bit for bit."""

import json
from pathlib import Path
from typing import Any

import pytest

from bertune.conformance import tiny_encoder
from bertune.errors import InputError
from bertune.features import Features
from bertune.tasks import feature_cache
from bertune.tasks.feature_cache import Source, featurized
from bertune.tasks.multi_label import MultiLabelClassification
from bertune.tasks.protocol import Purpose
from bertune.tasks.question_answering import QuestionAnswering
from bertune.tasks.registry import new_task
from bertune.tasks.text_classification import TextClassification
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import (
    FAST,
    Row,
    bertune,
    done,
    files,
    opinions,
    refused,
    same_weights,
    train,
    write_encoder,
    write_rows,
)

Capture = pytest.CaptureFixture[str]


def counted(featurize: Any, calls: list[str]) -> Any:
    """Featurize, and note what for."""

    def noted(*arguments: Any, purpose: Purpose) -> Features:
        calls.append(purpose)
        made: Features = featurize(*arguments, purpose=purpose)
        return made

    return noted


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A cache of its own that keeps small files too; the purposes for which texts were really tokenized."""
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "WORTH", 1)
    calls: list[str] = []
    for kind in (TextClassification, MultiLabelClassification, QuestionAnswering):
        monkeypatch.setattr(kind, "featurize", counted(kind.featurize, calls))
    return calls


def test_what_makes_other_features(tmp_path: Path, made: list[str]) -> None:
    path = write_rows(tmp_path / "data.csv", opinions(8))
    task = new_task("text-classification")
    examples = list(task.read(path, labelled=True))
    task = task.fit(examples, path=path, settings={})
    tokenizer = tiny_encoder(tmp_path)[1]

    def ask(own: Any = task, length: int = 16, purpose: Purpose = "train", count: int = 8) -> Features:
        text = TextEncoding(tokenizer, length)
        return featurized(own, examples[:count], text, purpose=purpose, source=Source.of(path))

    first = ask()
    assert ask().input_ids.values.tolist() == first.input_ids.values.tolist()
    assert made == ["train"]
    ask(length=8)
    ask(purpose="evaluate")
    ask(count=7)
    window = task.with_options(type(task.options)(long_text="window"))
    ask(window)
    assert len(made) == 5
    path.write_text(path.read_text() + "\n")
    ask()
    (tmp_path / "vocab.txt").write_text((tmp_path / "vocab.txt").read_text() + "film\n")
    tokenizer = Tokenizer.from_vocab(tmp_path / "vocab.txt")
    other = ask()
    assert len(made) == 7
    assert other.tokens < first.tokens


def test_small_files_and_tasks_of_ones_own_are_not_kept(
    tmp_path: Path, made: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(feature_cache, "WORTH", 17)
    train(capsys, tmp_path, opinions(16), "--max-steps", "1")
    assert not (tmp_path / "cache" / "features").exists()
    monkeypatch.setattr(feature_cache, "WORTH", 1)
    monkeypatch.setattr(feature_cache, "task_file_of", lambda _: "my_task.py")
    model, data = tmp_path / "model", tmp_path / "train.jsonl"
    done(capsys, "evaluate", "--model", model, "--data", data)
    assert not (tmp_path / "cache" / "features").exists()


def test_training_from_kept_features_gives_the_same_model(tmp_path: Path, made: list[str], capsys: Capture) -> None:
    data = write_rows(tmp_path / "dev.jsonl", opinions(12, seed=3))
    model = train(capsys, tmp_path, opinions(24), "--validation", data)
    assert made == ["train", "evaluate"]
    model.rename(tmp_path / "first")
    train(capsys, tmp_path, opinions(24), "--validation", data)
    assert made == ["train", "evaluate"]
    assert same_weights(tmp_path / "first", model)
    model.rename(tmp_path / "second")
    train(capsys, tmp_path, opinions(24), "--validation", data, "--no-feature-cache")
    assert made == ["train", "evaluate"] * 2
    assert same_weights(tmp_path / "first", model)


def _question(number: int) -> Row:
    """Every fourth one has no answer; of the others any span is right."""
    answers = {"text": ["good"], "answer_start": [0]} if number % 4 else {"text": [], "answer_start": []}
    return {"question": f"film {number}", "context": "good", "answers": answers}


LABELS: tuple[list[str], ...] = ([], ["good"], ["bad", "good"])
TUNED: dict[str, tuple[list[Row], str]] = {
    "text-classification": ([*opinions(24)], "weights"),
    "multi-label-classification": ([{"text": f"good {i}", "labels": LABELS[i % 3]} for i in range(24)], "thresholds"),
    "question-answering": ([_question(i) for i in range(24)], "tuned_threshold"),
}
"""Rows for tasks that learn more than their features depend on, and what that is."""


@pytest.mark.parametrize("task", TUNED)
def test_evaluate_finds_what_training_made(task: str, tmp_path: Path, made: list[str], capsys: Capture) -> None:
    rows, learnt = TUNED[task]
    data = write_rows(tmp_path / "dev.jsonl", rows[:12])
    weights = ("--class-weights", "balanced") if learnt == "weights" else ()
    model = train(capsys, tmp_path, rows, "--validation", data, *weights, task=task)
    assert json.loads((model / "bertune.json").read_text())["task"][learnt] not in (0, [])
    command = ["evaluate", "--model", model, "--data", data, "--json"]
    before = files(tmp_path / "cache")
    told = done(capsys, *command)
    assert made == ["train", "evaluate"]
    assert "found tokenized" in told.err
    done(capsys, *command, "--no-feature-cache")
    assert made == ["train", "evaluate", "evaluate"]
    assert files(tmp_path / "cache") == before


def test_a_file_that_is_replaced_after_reading_is_not_kept_under_its_new_hash(
    tmp_path: Path, made: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "dev.jsonl", opinions(12, seed=3))
    model = train(capsys, tmp_path, opinions(24), "--max-steps", "1")
    made.clear()
    with monkeypatch.context() as patch:

        def replaced(self: Any, examples: Any, path: Path) -> list[str]:
            write_rows(data, opinions(12, seed=4))
            return []

        patch.setattr(TextClassification, "problems", replaced)
        done(capsys, "evaluate", "--model", model, "--data", data)
    assert made == ["evaluate"]
    done(capsys, "evaluate", "--model", model, "--data", data)
    assert made == ["evaluate", "evaluate"]  # the new rows were not seen before
    write_rows(data, opinions(12, seed=3))
    done(capsys, "evaluate", "--model", model, "--data", data)
    assert made == ["evaluate", "evaluate"]


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, made: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_rows(tmp_path / "dev.jsonl", opinions(12, seed=3))
    model = train(capsys, tmp_path, opinions(24), "--max-steps", "1")
    plain = TextClassification.read

    def growing(self: Any, path: Path, *, labelled: bool) -> Any:
        yield from plain(self, path, labelled=labelled)
        with path.open("a") as file:
            file.write('{"text": "late", "label": "good"}\n')

    monkeypatch.setattr(TextClassification, "read", growing)
    told = bertune(capsys, "evaluate", "--model", model, "--data", data)
    assert told.status == 2
    assert f"{data}: changed while it was read" in told.err


def _again(folder: Path) -> list[object]:
    """The command that `train` runs in a folder."""
    data, output = folder / "train.jsonl", folder / "model"
    options = ["--encoder", folder / "encoder", "--train", data, "--output", output, *FAST]
    return ["train", "--task", "text-classification", *options]


def test_what_no_text_can_be_read_with_is_told_before_anything_is_written(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Features:
        raise InputError("--max-seq-length 4: no room")

    monkeypatch.setattr(TextClassification, "featurize", refuse)
    write_encoder(tmp_path / "encoder")
    write_rows(tmp_path / "train.jsonl", opinions(12))
    refused(capsys, tmp_path, _again(tmp_path), "no room")
