"""The report at the end of a run: the figures of `bertune report`, spared on request, never in the way; margins."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from bertune.durations import Clock
from bertune.errors import InputError
from bertune.report.options import ReportOptions
from bertune.report.write import write_answered, write_report
from bertune.training import closing_report
from bertune.training.train import train
from tests import runs, tiny

PLANTED = {2, 3, 4, 5}
"""Lines of the rows that are labelled wrongly."""
FILES = ("report.html", "report.json", "errors.csv")


@pytest.mark.parametrize("task", ["text-classification", "question-answering", "token-classification", "embedding"])
def test_it_has_the_figures_of_a_report_afterwards(task: str, tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", task)
    runs.start(tmp_path / "run", options | {"precision": "fp32"})
    first = json.loads((tmp_path / "run" / "report.json").read_text())
    again = write_report(tmp_path / "run", ReportOptions(baselines=False, precision="fp32")).figures
    assert first["rows"] == again["rows"]
    for one, other in zip(first["metrics"], again["metrics"], strict=True):
        assert one == pytest.approx(json.loads(json.dumps(other)), abs=1e-4)
    for name in ("errors_in_all", "curves", "lengths", "run"):
        assert first[name] == json.loads(json.dumps(again[name]))


def test_it_is_left_out_on_request_and_without_validation(tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", "text-classification")
    runs.start(tmp_path / "without", options | {"report": False})
    runs.start(tmp_path / "blind", {**options, "validation": None, "validation_share": 0})
    for name in ("without", "blind"):
        assert (tmp_path / name / "metrics.json").is_file()
        assert not any((tmp_path / name / file).exists() for file in FILES)


def test_a_report_that_fails_is_told_and_the_run_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("no rows")

    monkeypatch.setattr(closing_report, "write_answered", broken)
    result = train(output=tmp_path / "run", **runs.prepare(tmp_path / "data", "text-classification"))
    assert result.metrics["accuracy"] >= 0
    (message,) = [text for record in caplog.records if (text := record.getMessage()).startswith("no report")]
    assert "ZeroDivisionError: no rows" in message
    assert f"bertune report {tmp_path / 'run'}" in message


@pytest.mark.parametrize("left", [1e6, 0.5])
def test_other_methods_are_not_asked_where_the_time_is_over(
    left: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[bool]()
    real = write_answered

    def look(folder: Path, answered: Any, how: ReportOptions, train: Any) -> Any:
        asked.append(how.opinions)
        return real(folder, answered, how, train)

    monkeypatch.setattr(closing_report, "write_answered", look)
    monkeypatch.setattr(Clock, "left", property(lambda self: left if self.whole is None else 1e6))
    options = runs.prepare(tmp_path / "data", "text-classification")
    with caplog.at_level("INFO"):
        train(output=tmp_path / "run", **{**options, "time_limit": "10m"})
    assert asked == [left > 1]
    assert ("bertune report does" in caplog.text) == (left < 1)
    assert (tmp_path / "run/report.html").is_file()


def test_seeds_have_one_report_of_the_best(tmp_path: Path) -> None:
    options = runs.prepare(tmp_path / "data", "text-classification")
    train(output=tmp_path / "run", seeds="1,2", **options)
    assert all((tmp_path / "run" / name).is_file() for name in FILES)
    assert not list((tmp_path / "run").glob("seed-*/report.html"))


def test_folds_are_judged_on_their_training_rows(tmp_path: Path) -> None:
    rows = [dict(row) for row in tiny.opinions(96)]
    for row in rows[:4]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    train(
        task="text-classification", encoder=tiny.write_encoder(tmp_path / "encoder"), folds=3, output=tmp_path / "run",
        train=tiny.write_rows(tmp_path / "train.csv", rows), max_seq_length=32, batch_size=8, learning_rate=1e-2,
        epochs=8, device="cpu",
    )  # fmt: skip
    figures = json.loads((tmp_path / "run" / "report.json").read_text())
    assert figures["rows"] == 96
    pooled = json.loads((tmp_path / "run" / "metrics.json").read_text())["pooled"]
    accuracy = next(one for one in figures["metrics"] if one["metric"] == "accuracy")
    assert accuracy["value"] == pytest.approx(pooled["accuracy"])
    with (tmp_path / "run" / "suspects.csv").open(newline="") as file:
        first = {int(row["place"]) for row in list(csv.DictReader(file))[:4]}
    assert len(first & PLANTED) >= 3


def test_margins_over_the_epochs_find_wrong_training_labels(tmp_path: Path) -> None:
    rows = [dict(row) for row in tiny.opinions(96)]
    for row in rows[:4]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    options = {
        "task": "text-classification", "encoder": tiny.write_encoder(tmp_path / "encoder"),
        "train": tiny.write_rows(tmp_path / "train.csv", rows), "max_seq_length": 32, "batch_size": 8,
        "learning_rate": 5e-3, "epochs": 6, "device": "cpu", "validation_share": 0,
    }  # fmt: skip
    train(**options, output=tmp_path / "plain")
    train(**options, output=tmp_path / "run", label_margins=True)
    assert tiny.same_weights(tmp_path / "plain", tmp_path / "run")
    with (tmp_path / "run" / "margins.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 96
    assert {row["seen"] for row in found} == {"6"}
    assert len({int(row["place"]) for row in found[:4]} & PLANTED) >= 3
    margins = [float(row["mean_margin"]) for row in found]
    assert margins == sorted(margins)
    with pytest.raises(InputError, match="label_margins: "):
        train(**options | {"validation_share": None}, output=tmp_path / "seeds", label_margins=True, seeds="1,2")
