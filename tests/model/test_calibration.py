"""A trained model's temperature lies in its head: predict, transformers and the recorded figures agree; review."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

import bertune
from bertune.errors import InputError
from tests import tiny

WRONG = 12
"""Validation rows with a wrong label, of 80."""


def trained(folder: Path, name: str, **more: Any) -> Path:
    options: dict[str, Any] = {
        "task": "text-classification", "encoder": folder / "encoder", "train": folder / "train.jsonl",
        "validation": folder / "dev.jsonl", "output": folder / name, "max_seq_length": 32, "batch_size": 8,
        "learning_rate": 1e-2, "epochs": 6, "precision": "fp32", "device": "cpu",
    }  # fmt: skip
    bertune.train(**(options | more))
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models of the same training, one with a temperature and one without, in `with` and `without`."""
    root = tmp_path_factory.mktemp("calibrated")
    tiny.write_encoder(root / "encoder")
    tiny.write_rows(root / "train.jsonl", tiny.opinions(96))
    tiny.write_rows(root / "dev.jsonl", tiny.doubtful_opinions(80, WRONG))
    trained(root, "with")
    trained(root, "without", calibration=False)
    return root


TEXTS = ["the film is good", "awful", "a fine film", "the bad film is the film"]


def test_scores_are_those_of_logits_at_the_temperature(folder: Path) -> None:
    recorded = json.loads((folder / "with" / "bertune.json").read_text())["calibration"]
    assert recorded["rows"] == 80
    (temperature,) = recorded["temperatures"]
    assert temperature > 1.2  # 12 of 80 labels are wrong, and the model is sure of all
    assert "calibration" not in json.loads((folder / "without" / "bertune.json").read_text())
    cool, raw = (bertune.load(folder / name, precision="fp32").predict(TEXTS) for name in ("with", "without"))
    assert [one["label"] for one in cool] == [one["label"] for one in raw]
    for one, other in zip(cool, raw, strict=True):
        odds = np.log(other["scores"]["good"] / other["scores"]["bad"])
        assert one["scores"]["good"] == pytest.approx(1 / (1 + np.exp(-odds / temperature)), abs=1e-3)


def test_transformers_gives_the_same_scores(folder: Path) -> None:
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "with").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "with")
    expected = theirs(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.softmax(-1).tolist()
    for one, row in zip(bertune.load(folder / "with", precision="fp32").predict(TEXTS), expected, strict=True):
        assert list(one["scores"].values()) == pytest.approx(row, abs=1e-5)


def test_recorded_figures_are_the_saved_models(folder: Path) -> None:
    for name in ("with", "without"):
        recorded = json.loads((folder / name / "metrics.json").read_text())
        found = bertune.load(folder / name, precision="fp32").evaluate(folder / "dev.jsonl")
        for metric in ("accuracy", "f1", "loss"):
            assert found[metric] == pytest.approx(recorded[metric], abs=1e-5)
    losses = [json.loads((folder / name / "metrics.json").read_text())["loss"] for name in ("with", "without")]
    assert losses[0] < losses[1]


@pytest.mark.parametrize(
    ("task", "sample"),
    [("multi-label-classification", "topics"), ("multiple-choice", "choices"), ("token-classification", "entities"),
     ("question-answering", "handbook")],
)  # fmt: skip
def test_other_heads_answer_as_without(task: str, sample: str, tmp_path: Path) -> None:
    samples = Path(bertune.__file__).parent / "samples" / sample
    data = next(samples.glob("train.*"))
    tiny.write_encoder(tmp_path / "encoder")
    found = {}
    for name, calibration in (("with", True), ("without", False)):
        trained(
            tmp_path, name, task=task, train=data, validation=data, calibration=calibration, epochs=4,
            learning_rate=3e-3, report=False, **({"max_seq_length": 64} if sample == "handbook" else {}),
        )  # fmt: skip
        model = bertune.load(tmp_path / name, precision="fp32")
        found[name] = model, list(model.task.read(data, labelled=True))
    assert json.loads((tmp_path / "with" / "bertune.json").read_text())["calibration"]["temperatures"]
    answers = {
        name: [model.task.predicted_answer(one) for one in model.predict_examples(examples)]
        for name, (model, examples) in found.items()
    }
    assert answers["with"] == answers["without"]


def test_answers_below_a_score_are_left_to_a_person(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, output = folder / "with", folder / "answers.jsonl"
    plain = bertune.load(model, precision="fp32").predict(TEXTS)
    cut = sorted(one["score"] for one in plain)[2]
    tiny.write_rows(folder / "texts.jsonl", [{"text": text} for text in TEXTS])
    command = ["predict", "--model", model, "--input", folder / "texts.jsonl", "--output", output]
    tiny.done(capsys, *command, "--precision", "fp32", "--threshold", cut)
    found = [json.loads(line) for line in output.read_text().splitlines()]
    for one, other in zip(found, plain, strict=True):
        assert one["review"] == (other["score"] < cut)
        assert one["label"] == (None if one["review"] else other["label"])
        assert one["scores"] == other["scores"]
    assert sum(one["review"] for one in found) == 2


def test_one_label_may_need_a_higher_score(folder: Path) -> None:
    model = bertune.load(folder / "with", precision="fp32")
    model.task = model.task.with_options(type(model.task.options)(threshold={"good": 1.0}))
    found = model.predict(["the film is good", "awful"])
    assert [one["label"] for one in found] == [None, "bad"]


def test_automation_follows_the_validation_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the validation rows 85 % are answered right, the wrongly labelled ones as surely as the others."""
    output = folder / "automatic.jsonl"
    command = ["predict", "--model", folder / "with", "--input", folder / "dev.jsonl", "--output", output]
    tiny.done(capsys, *command, "--automate-at", "0.8")
    assert not any(json.loads(line)["review"] for line in output.read_text().splitlines())
    output.unlink()
    tiny.done(capsys, *command, "--automate-at", "0.9")
    coverage = json.loads((folder / "with" / "bertune.json").read_text())["task"]["coverage"]
    least = min((cut for cut, right in coverage if right >= 0.9), default=2.0)
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [one["review"] for one in answers] == [one["score"] < least for one in answers]
    assert any(one["review"] for one in answers)


def test_evaluate_says_how_much_is_answered_and_how_well(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["evaluate", "--model", folder / "with", "--data", folder / "dev.jsonl", "--precision", "fp32", "--json"]
    plain = json.loads(tiny.done(capsys, *command).out)
    assert "answered" not in plain
    model = bertune.load(folder / "with", precision="fp32")
    rows = [json.loads(line) for line in (folder / "dev.jsonl").read_text().splitlines()]
    answers = model.predict([row["text"] for row in rows])
    cut = sorted(one["score"] for one in answers)[30]
    found = json.loads(tiny.done(capsys, *command, "--threshold", cut).out)
    stand = [(one, row) for one, row in zip(answers, rows, strict=True) if one["score"] >= cut]
    assert found["answered"] == len(stand) / 80
    right = sum(one["label"] == row["label"] for one, row in stand)
    assert found["answered_accuracy"] == pytest.approx(right / len(stand))
    assert found["accuracy"] == plain["accuracy"]
    none = json.loads(tiny.done(capsys, *command, "--threshold", "good=1", "bad=1").out)
    assert (none["answered"], none["answered_accuracy"]) == (0, 0)
    model.task = model.task.with_options(type(model.task.options)(automate_at=0.8))
    assert model.evaluate(folder / "dev.jsonl")["answered"] == 1


def test_a_run_with_few_validation_rows_may_ask_for_automation(tmp_path: Path) -> None:
    """Its coverage is not known, so that predictions will ask for a threshold; the run itself is none the worse."""
    tiny.write_encoder(tmp_path / "encoder")
    tiny.write_rows(tmp_path / "train.jsonl", tiny.opinions(24))
    tiny.write_rows(tmp_path / "dev.jsonl", tiny.opinions(12, seed=1))
    run = trained(tmp_path, "few", automate_at=0.9, epochs=1)
    assert (run / "report.html").is_file()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--threshold", "1.5"], "from 0 to 1"),
        (["--threshold", "fine=0.9"], "'fine=0.9'|fine=0.9: no such label; known: bad, good"),
        (["--threshold", "good=0.9", "good=0.8"], "given twice"),
        (["--threshold", "0.9", "0.8"], "expected one number"),
        (["--automate-at", "95"], "automate-at"),
    ],
)
def test_impossible_thresholds_are_refused(
    folder: Path, options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "--model", folder / "with", "--input", folder / "dev.jsonl"]
    answer = tiny.bertune(capsys, *command, *options)
    assert answer.status == 2
    assert any(one in answer.err for one in told.split("|"))


def test_a_model_without_coverage_cannot_automate(tmp_path: Path) -> None:
    tiny.write_encoder(tmp_path / "encoder")
    tiny.write_rows(tmp_path / "train.jsonl", tiny.opinions(24))
    tiny.write_rows(tmp_path / "dev.jsonl", tiny.opinions(8, seed=1))
    model = bertune.load(trained(tmp_path, "few", epochs=1))
    with pytest.raises(InputError, match="keeps no coverage"):
        model.task.with_options(type(model.task.options)(automate_at=0.9))
