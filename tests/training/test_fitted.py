"""What a task learnt is the same in every process, and a resumed run goes on with nothing else."""

import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bertune
from bertune.errors import InputError
from bertune.tasks.regression import Regression
from bertune.tasks.text_classification import TextClassification, TextExample
from tests.tiny import opinions, write_encoder, write_rows

LABELS = ("1.0", "2.0", "3.0", "inf", "nan", "-inf", "-0.0", "0.0", "0", "1", "1e0", "NaN", "-nan", "bad", "Bad", "1_0")


def order(labels: tuple[str, ...]) -> tuple[str, ...]:
    examples = [TextExample("a", label=label) for label in labels]
    return TextClassification().fit(examples, path=Path("a"), settings={}).labels


def test_the_order_of_labels_is_total() -> None:
    expected = (
        "-inf",
        "-0.0",
        "0",
        "0.0",
        "1",
        "1.0",
        "1e0",
        "2.0",
        "3.0",
        "1_0",
        "inf",
        "-nan",
        "Bad",
        "NaN",
        "bad",
        "nan",
    )
    for start in range(len(LABELS)):
        assert order(LABELS[start:] + LABELS[:start]) == order(LABELS[::-1]) == expected
    for some in itertools.permutations(("1.0", "nan", "NaN", "2")):
        assert order(some) == ("1.0", "2", "NaN", "nan")


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_every_process_finds_the_same_order(seed: str) -> None:
    code = "import tests.training.test_fitted as t; print(t.order(t.LABELS))"
    environment = os.environ | {"PYTHONHASHSEED": seed}
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout.strip() == str(order(LABELS))


def options(folder: Path, rows: list[dict[str, object]], task: str) -> dict[str, Any]:
    return {
        "task": task,
        "encoder": write_encoder(folder / "encoder"),
        "train": write_rows(folder / "train.jsonl", rows),
        "output": folder / "model",
        "max_seq_length": 32,
        "batch_size": 8,
        "max_steps": 2,
        "device": "cpu",
    }


def test_a_resumed_run_that_learnt_other_labels_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path, opinions(16, labels=("1.0", "nan", "inf")), "text-classification")
    bertune.train(**given)
    bertune.train(**given, resume=True)
    learn = TextClassification.fit

    def reversed_labels(self: TextClassification, *args: Any, **more: Any) -> TextClassification:
        found = learn(self, *args, **more)
        return dataclasses.replace(found, labels=found.labels[::-1])

    monkeypatch.setattr(TextClassification, "fit", reversed_labels)
    with pytest.raises(
        InputError, match=r'task\'s labels differ .*"1.0", "inf", "nan"\] then, \["nan", "inf", "1.0"\] now'
    ):
        bertune.train(**given, resume=True)


def test_the_scale_of_a_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, object]] = [{"text": "a b", "label": number / 2} for number in range(16)]
    given = options(tmp_path, rows, "regression") | {"standardize": True}
    bertune.train(**given)
    monkeypatch.setattr(Regression, "fit", lambda self, *_, **__: Regression(self.name, self.options, 1.0, 2.0))
    with pytest.raises(InputError, match=r"2 problems:[\s\S]*mean differ[\s\S]*deviation differ"):
        bertune.train(**given, resume=True)


def test_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bertune.tasks.token_classification import TokenClassification

    rows: list[dict[str, object]] = [{"tokens": ["a", "b"], "tags": ["B-A", "B-B"]}] * 8
    given = options(tmp_path, rows, "token-classification")
    bertune.train(**given)
    state = json.loads((next((tmp_path / "model/checkpoints").glob("step-*")) / "progress.json").read_text())
    assert any("A" in str(value) for value in state["fitted"].values())
    learn = TokenClassification.fit

    def other(self: Any, examples: Any, **more: Any) -> Any:
        return _swapped(learn(self, examples, **more))

    monkeypatch.setattr(TokenClassification, "fit", other)
    with pytest.raises(InputError, match="differ from those the checkpoint was trained with"):
        bertune.train(**given, resume=True)


def _swapped(task: Any) -> Any:
    state = task.to_json()
    changed = {name: value[::-1] if isinstance(value, list | tuple) else value for name, value in state.items()}
    return task.restored(changed)


def as_of_0_1_0(run: Path, *, labels: list[str] | None) -> None:
    """Checkpoints without what the task learnt; the run's model has these labels, or is not there yet."""
    for path in (run / "checkpoints").glob("step-*/progress.json"):
        state = json.loads(path.read_text())
        del state["fitted"], state["own_sha256"]
        state["own_sha256"] = hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
        path.write_text(json.dumps(state))
    record = json.loads((run / "bertune.json").read_text())
    if labels is None:
        (run / "bertune.json").unlink()
    else:
        record["task"]["labels"] = labels
        (run / "bertune.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("names", "labels", "told"),
    [
        (("1.0", "nan", "inf"), ["1.0", "inf", "nan"], None),
        (("1.0", "nan", "inf"), ["nan", "1.0", "inf"], r'labels differ .*\["nan", "1.0", "inf"\] then'),
        (("b", "a", "c"), ["c", "b", "a"], r"labels differ"),
        (("1.0", "nan", "inf"), None, r"the labels 'nan' had no fixed order in the version of bertune that began"),
        (("a", "NaN", "-nan"), None, r"the labels '-nan', 'NaN' had no fixed order"),
        (("b", "a", "inf"), None, None),
    ],
)
def test_checkpoints_of_0_1_0_are_compared_with_the_model_of_their_run(
    tmp_path: Path, names: tuple[str, ...], labels: list[str] | None, told: str | None
) -> None:
    given = options(tmp_path, opinions(16, labels=names), "text-classification")
    bertune.train(**given)
    as_of_0_1_0(tmp_path / "model", labels=labels)
    if told is None:
        assert bertune.train(**given, resume=True).steps == 2
    else:
        with pytest.raises(InputError, match=told):
            bertune.train(**given, resume=True)
