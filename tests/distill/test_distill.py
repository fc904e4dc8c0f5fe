"""Whole distillations with tiny models: every kind of task, labels mixed in, refusals."""

import json
from pathlib import Path

import pytest

import bertune
from bertune.distill.distill import distill
from bertune.errors import InputError
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
        ({"temperature": 0.0}, "--temperature 0.0: must be above 0"),
        ({"alpha": 2.0}, "--alpha 2.0"),
        ({"unlabelled": "nosuch.jsonl"}, "nosuch.jsonl"),
        ({"teacher": "nosuch"}, "nosuch: there is no such folder"),
        ({"metric": "beauty"}, "--metric beauty"),
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
