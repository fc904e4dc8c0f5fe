"""Whole distillations with tiny models: every kind of task, labels mixed in, refusals."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertune
from bertune.distill.distill import distill
from bertune.distill.teachers import logits_of
from bertune.errors import InputError
from bertune.tasks.registry import new_task
from tests import runs, tiny

TASKS = [
    "text-classification", "multi-label-classification", "regression", "token-classification", "question-answering",
    "multiple-choice", "embedding",
]  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_every_kind_of_task_gets_a_student_of_half_the_layers(task: str, tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", task)
    runs.start(tmp_path / "teacher", options)
    rows = options["train"]
    found = distill(
        teacher=tmp_path / "teacher", student="every:2", unlabelled=rows, train=rows, validation=rows, max_steps=3,
        output=tmp_path / "student", precision="fp32",
    )  # fmt: skip
    teacher, student = str(tmp_path / "teacher"), str(tmp_path / "student")
    assert found.models[student]["layers"] == found.models[teacher]["layers"] / 2
    assert found.models[student]["weights"] < found.models[teacher]["weights"]
    assert found.models[teacher]["agreement"] == 1
    assert len(found.comparison["runs"]) == 3
    assert "distilling" in found.verdict()
    assert bertune.load(student).evaluate(rows)["loss"] > 0


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of opinions that knows them by heart."""
    folder = tmp_path_factory.mktemp("teacher")
    tiny.write_encoder(folder / "encoder")
    rows = tiny.write_rows(folder / "train.jsonl", tiny.opinions(96))
    bertune.train(
        task="text-classification", encoder=folder / "encoder", train=rows, output=folder / "model", max_seq_length=32,
        batch_size=8, learning_rate=1e-2, epochs=10, precision="fp32",
    )  # fmt: skip
    tiny.write_rows(folder / "dev.jsonl", tiny.opinions(32, seed=1))
    plain = [{"text": row["text"]} for row in tiny.opinions(192, seed=2)]
    tiny.write_rows(folder / "unlabelled.jsonl", plain)
    return folder


def test_a_student_learns_from_the_teacher_alone(teacher: Path, tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "small", num_hidden_layers=1, seed=5)
    found = distill(
        teacher=teacher / "model", student=tmp_path / "small", unlabelled=teacher / "unlabelled.jsonl",
        validation=teacher / "dev.jsonl", output=tmp_path / "out", learning_rate=1e-2, epochs=10, batch_size=8,
        precision="fp32",
    )  # fmt: skip
    assert found.models[str(tmp_path / "out")]["agreement"] > 0.9
    assert found.verdict() == ""
    told = json.loads((tmp_path / "out/bertune.json").read_text())
    assert told["options"]["teacher"] == [str(teacher / "model")]
    assert len(told["options"]["teacher_sha256"][0]) == 64


def test_several_teachers_and_the_command_line(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "second").symlink_to(teacher / "model")
    answer = tiny.done(
        capsys, "distill", "--teacher", teacher / "model", tmp_path / "second", "--student", "every:2", "--unlabelled",
        teacher / "unlabelled.jsonl", "--train", teacher / "train.jsonl", "--validation", teacher / "dev.jsonl",
        "--output", tmp_path / "out", "--max-steps", "4", "--precision", "fp32", "--json",
    )  # fmt: skip
    told = json.loads(answer.out)
    assert told["models"][str(tmp_path / "out")]["layers"] == 1
    assert "labels only" in answer.err
    assert "distilling" in answer.err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"student": "every:1"}, "K must be at least 2"),
        ({"student": "every:x"}, "expected every:K"),
        ({"student": "every:3"}, "the teacher has only 2 layers"),
        ({"temperature": 0.0}, "temperature 0.0: must be above 0"),
        ({"alpha": 2.0}, "alpha 2.0"),
        ({"unlabelled": "nosuch.jsonl"}, "nosuch.jsonl"),
        ({"teacher": "nosuch"}, "teacher nosuch: there is no such folder"),
        ({"metric": "beauty"}, "metric beauty"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    teacher: Path, tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    given = {
        "teacher": teacher / "model", "student": "every:2", "unlabelled": teacher / "unlabelled.jsonl",
        "validation": teacher / "dev.jsonl", "output": tmp_path / "out", "max_steps": 2, "precision": "fp32",
    }  # fmt: skip
    with pytest.raises(InputError) as error:
        distill(**{**given, **changes})
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_student_that_is_too_small_for_its_texts_is_refused(teacher: Path, tmp_path: Path) -> None:
    given = {
        "teacher": teacher / "model", "unlabelled": teacher / "unlabelled.jsonl", "output": tmp_path / "out",
        "validation": teacher / "dev.jsonl", "max_steps": 2, "precision": "fp32",
    }  # fmt: skip
    few = tiny.write_encoder(tmp_path / "few", vocab_size=tiny.SIZES["vocab_size"] - 3)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"few: the vocabulary has .* entries, the encoder only"):
        distill(**given, student=few)
    short = tiny.write_encoder(tmp_path / "short", max_position_embeddings=16)
    with pytest.raises(InputError, match=r"max_seq_length 32: student .*short has only 16 positions"):
        distill(**given, student=short, max_seq_length=32)
    assert not (tmp_path / "out").exists()


def test_teachers_of_other_labels_are_refused(teacher: Path, tmp_path: Path) -> None:
    rows = tiny.write_rows(tmp_path / "train.jsonl", tiny.opinions(16, labels=("no", "yes")))
    bertune.train(
        task="text-classification", encoder=teacher / "encoder", train=rows, output=tmp_path / "other", max_steps=2,
        max_seq_length=32,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"its labels are no, yes; those of .*: bad, good"):
        distill(
            teacher=[teacher / "model", tmp_path / "other"], student="every:2", validation=teacher / "dev.jsonl",
            unlabelled=teacher / "unlabelled.jsonl", output=tmp_path / "out",
        )  # fmt: skip


def test_pieces_of_another_vocabulary_are_refused_for_tags(tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", "token-classification")
    runs.start(tmp_path / "teacher", options)
    other = tiny.write_encoder(tmp_path / "other")
    words = (other / "vocab.txt").read_text().splitlines() if (other / "vocab.txt").exists() else []
    (other / "vocab.txt").write_text("\n".join([*words[:-1], "movie"]) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (other / name).unlink(missing_ok=True)
    with pytest.raises(InputError, match="reads other pieces than the teacher"):
        distill(
            teacher=tmp_path / "teacher", student=other, unlabelled=options["train"], validation=options["train"],
            output=tmp_path / "out",
        )  # fmt: skip


def scored(folder: Path, cells: list[object], *, suffix: str = "jsonl") -> Path:
    """Unlabelled rows with a column of scores."""
    rows = [{"text": row["text"], "scores": cell} for row, cell in zip(tiny.opinions(len(cells)), cells, strict=True)]
    if suffix == "csv":
        rows = [{**row, "scores": json.dumps(row["scores"])} for row in rows]
    return tiny.write_rows(folder / f"scored.{suffix}", rows)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_column_of_scores_instead_of_a_teacher(suffix: str, tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    good = [row["label"] == "good" for row in tiny.opinions(96)]
    rows = scored(tmp_path, [{"good": 0.95, "bad": 0.05} if one else {"bad": 0.9} for one in good], suffix=suffix)
    found = distill(
        scores="scores", task="text-classification", student=tmp_path / "encoder", unlabelled=rows, batch_size=8,
        validation=tiny.write_rows(tmp_path / "dev.jsonl", tiny.opinions(32, seed=1)), output=tmp_path / "out",
        learning_rate=1e-2, epochs=10, max_seq_length=32, precision="fp32",
    )  # fmt: skip
    (run,) = found.comparison["runs"]
    assert run["value"] > 0.9
    assert "agreement" not in found.models[str(tmp_path / "out")]
    assert json.loads((tmp_path / "out/bertune.json").read_text())["options"]["scores"] == "scores"
    assert len(found.table().rows) == 1


def test_scores_beside_labels_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    rows = [{"text": f"the film is {'good' if i % 2 else 'bad'}", "label": i % 2 + i / 100} for i in range(16)]
    parts = [tiny.write_rows(tmp_path / f"{i}.jsonl", rows[i::2]) for i in range(2)]
    answer = tiny.done(
        capsys, "distill", "--scores", "scores", "--task", "regression", "--student", tmp_path / "encoder",
        "--unlabelled", scored(tmp_path, [0.5, 1, -0.5, 0.0]), "--train", *parts, "--validation", parts[0], "--output",
        tmp_path / "out", "--max-steps", "3", "--max-seq-length", "32", "--json",
    )  # fmt: skip
    told = json.loads(answer.out)
    assert set(told["models"]) == {str(tmp_path / "out"), str(tmp_path / "out/labels-only")}
    assert "distilling" in answer.err


@pytest.mark.parametrize(
    ("task", "cell", "expected"),
    [
        ("text-classification", '{"a": 0.8, "b": 0.2}', {"a": 0.8, "b": 0.2}),
        ("text-classification", '{"b": 0.7}', {"a": 0.3, "b": 0.7}),
        ("multi-label-classification", '{"a": 0.8}', {"a": 0.8, "b": 1e-6}),
        ("regression", "2.5", 2.5),
        ("text-classification", '{"c": 1}', "unknown label 'c'; known: a, b"),
        ("text-classification", '{"a": 0.8, "b": 0.8}', "add up to 1.6, not 1"),
        ("text-classification", '{"a": -1, "b": 2}', "what is not a probability"),
        ("text-classification", "0.9", "is not an object of labels and probabilities"),
        ("text-classification", "", "is neither a number nor an object"),
        ("regression", '{"a": 1}', "is not a number"),
    ],
)
def test_scores_become_logits(task: str, cell: str, expected: object) -> None:
    known: Any = new_task(task, {})
    known = known if task == "regression" else dataclasses.replace(known, labels=("a", "b"))
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=re.escape(expected)):
            logits_of(known, cell)
        return
    logits = logits_of(known, cell)
    if task == "regression":
        assert logits.tolist() == [expected]
        return
    assert isinstance(expected, dict)
    chances = 1 / (1 + np.exp(-logits)) if task.startswith("multi") else np.exp(logits) / np.exp(logits).sum()
    assert chances == pytest.approx(list(expected.values()))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"scores": "marks"}, "marks"),
        ({"task": None}, "scores scores: needs task"),
        ({"task": "token-classification"}, "scores of whole rows are for classification"),
        ({"student": "every:2"}, "takes its layers from a teacher"),
        ({"teacher": "model"}, "one of the two"),
    ],
)
def test_scores_that_cannot_be_learnt_from(changes: dict[str, object], told: str, tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    rows = scored(tmp_path, [{"good": 1, "bad": 0}, {"good": 0.2, "bad": 0.9}])
    dev = tiny.write_rows(tmp_path / "dev.jsonl", tiny.opinions(8))
    given = {
        "scores": "scores", "task": "text-classification", "student": tmp_path / "encoder", "unlabelled": rows,
        "validation": dev, "output": tmp_path / "out", **changes,
    }  # fmt: skip
    with pytest.raises(InputError) as error:
        distill(**{name: value for name, value in given.items() if value is not None})
    assert told in str(error.value)
    with pytest.raises(InputError, match=r"row 2, column 'scores': the probabilities add up to 1.1"):
        distill(**{**given, "scores": "scores", "task": "text-classification", "student": tmp_path / "encoder",
                   "teacher": None})  # fmt: skip
    assert not (tmp_path / "out").exists()
