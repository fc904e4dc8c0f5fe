"""`train --folds K`: which rows are held out, what is reported and written, going on after a stop, refusals."""

import json
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertune
from bertune.errors import InputError, Interrupted
from bertune.tasks.held_out import fold_numbers
from bertune.tasks.labelled import read_recorded
from bertune.tasks.text_classification import TextExample
from bertune.training import cross_validation
from bertune.training.fine_tune import fine_tune
from tests import runs, tiny


def examples(labels: str) -> list[TextExample]:
    return [TextExample(f"text {i}", None, label) for i, label in enumerate(labels)]


def test_labels_are_spread_evenly_whatever_the_order() -> None:
    rows = examples("a" * 50 + "b" * 9 + "c" * 3)
    numbers = fold_numbers(rows, 3)
    assert Counter(numbers.tolist())[0] in (20, 21)
    for label, expected in (("a", {16, 17}), ("b", {3}), ("c", {1})):
        counts = Counter(int(fold) for fold, row in zip(numbers, rows, strict=True) if row.label == label)
        assert set(counts.values()) <= expected
    back = fold_numbers(rows[::-1], 3)[::-1]
    assert np.array_equal(numbers, back)


def test_groups_and_equal_texts_stay_together() -> None:
    rows = examples("ab" * 20)
    groups = [str(i // 4) for i in range(40)]
    numbers = fold_numbers(rows, 4, groups)
    assert all(len(set(numbers[i : i + 4].tolist())) == 1 for i in range(0, 40, 4))
    assert set(Counter(numbers.tolist()).values()) <= {8, 12}
    twice = [*rows, *(TextExample(row.text.upper(), None, row.label) for row in rows)]
    again = fold_numbers(twice, 4)
    assert np.array_equal(again[:40], again[40:])


def options(folder: Path, **changes: object) -> dict[str, Any]:
    if not (folder / "encoder").exists():
        tiny.write_encoder(folder / "encoder")
        rows = [{**row, "who": i // 3} for i, row in enumerate(tiny.opinions(60))]
        tiny.write_rows(folder / "train.csv", rows)
    return {
        "task": "text-classification", "encoder": folder / "encoder", "train": folder / "train.csv", "batch_size": 8,
        "max_seq_length": 32, "learning_rate": 5e-3, "epochs": 10, "precision": "fp32", "output": folder / "out",
        "folds": 3, **changes,
    }  # fmt: skip


def test_every_row_is_judged_once_and_the_final_model_learns_from_all(tmp_path: Path) -> None:
    found = bertune.train(**options(tmp_path, group_column="who"))
    out = tmp_path / "out"
    lines = [json.loads(line) for line in (out / "out_of_fold.jsonl").read_text().splitlines()]
    assert [line["row"] for line in lines] == list(range(1, 61))
    assert all(len({line["fold"] for line in lines[i : i + 3]}) == 1 for i in range(0, 60, 3))
    model = bertune.load(out)
    rows = read_recorded(model.task, model.record["data"]["train"]).examples
    assert len(rows) == 60
    right = float(np.mean([line["label"] == row.label for line, row in zip(lines, rows, strict=True)]))
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["pooled"]["accuracy"] == pytest.approx(right)
    by_fold = [one["metrics"]["accuracy"] for one in metrics["folds"]]
    assert metrics["accuracy"] == found.metrics["accuracy"] == pytest.approx(np.mean(by_fold))
    assert metrics["standard_deviation"]["accuracy"] == pytest.approx(np.std(by_fold, ddof=1))
    assert right > 0.8
    assert sum(one["rows"] for one in metrics["folds"]) == 60
    assert "validation" not in model.record["data"]
    assert not list(out.glob("fold-*"))
    assert metrics["record"]["steps"] == 80  # 60 rows, batches of 8, 10 epochs


def test_a_stopped_run_goes_on_with_the_fold_that_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bertune.train(**options(tmp_path, output=tmp_path / "whole", epochs=1))
    calls = list[str]()

    def stops(run: Any) -> Any:
        calls.append(run.options.output)
        if len(calls) == 2:
            raise Interrupted(signal.SIGTERM)
        return fine_tune(run)

    monkeypatch.setattr(cross_validation, "fine_tune", stops)
    with pytest.raises(Interrupted):
        bertune.train(**options(tmp_path, epochs=1))
    bertune.train(**options(tmp_path, epochs=1, resume=True))
    assert [Path(call).name for call in calls] == ["fold-1", "fold-2", "fold-2", "fold-3", "out"]
    whole, cut = tmp_path / "whole", tmp_path / "out"
    assert (whole / "out_of_fold.jsonl").read_text() == (cut / "out_of_fold.jsonl").read_text()
    assert tiny.same_weights(whole, cut)


@pytest.mark.parametrize("task", ["token-classification", "question-answering", "multiple-choice", "regression"])
def test_other_tasks(task: str, tmp_path: Path) -> None:
    given = runs.prepare(tmp_path, task)
    given.pop("validation")
    found = bertune.train(**{**given, "max_steps": 2, "folds": 2, "output": tmp_path / "out"})
    lines = [json.loads(line) for line in (tmp_path / "out/out_of_fold.jsonl").read_text().splitlines()]
    model = bertune.load(tmp_path / "out")
    rows = read_recorded(model.task, model.record["data"]["train"]).examples
    assert len(lines) == len(rows)
    known = model.task.row_metrics(rows, lines)
    assert known is not None
    assert found.more["pooled"] == pytest.approx(known.metrics(), nan_ok=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"folds": 1}, "folds 1: must be at least 2"),
        ({"folds": 200}, "folds 200"),
        ({"validation": "dev.csv"}, "with folds every row is held out once"),
        ({"validation_share": 0.2}, "validation_share 0.2: with folds"),
        ({"patience": 2}, "patience 2: the folds train as the final model does"),
        ({"seeds": "1,2"}, "seeds 1,2: the folds"),
        ({"group_column": "whose"}, "whose"),
        ({"folds": 30, "group_column": "who"}, "has only 20 values of group_column who"),
        ({"folds": 61}, "has only 60 different texts; name fewer folds"),
        ({"folds": 40}, "has no label with so many different texts (the most: 30, of 'good')"),
        ({"folds": 0}, "folds 0: must be at least 2"),
        ({"train": "nosuch.csv"}, "nosuch.csv"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        bertune.train(**options(tmp_path, **changes))
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_label_rarer_than_the_folds_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = options(tmp_path)
    rare: list[dict[str, object]] = [{"text": f"the film is {word}", "label": "so so"} for word in ("a", "b")]
    rows = [*tiny.opinions(30), *rare]
    tiny.write_rows(tmp_path / "train.csv", [{**row, "who": row["label"]} for row in rows])
    bertune.train(**{**given, "max_steps": 1})
    assert "1 label with fewer different texts than the 3 folds, which some folds are judged without" in caplog.text
    assert "'so so' (2)" in caplog.text
    with pytest.raises(InputError, match="has no label with so many values of group_column who"):
        bertune.train(**{**given, "group_column": "who", "output": tmp_path / "other"})
    assert not (tmp_path / "other").exists()


def test_the_limit_covers_folds_and_final_model(tmp_path: Path) -> None:
    import time

    began = time.monotonic()
    bertune.train(**options(tmp_path, epochs=5000, time_limit="12s"))
    assert time.monotonic() - began < 12 * 1.05
    shutil.rmtree(tmp_path / "out")
