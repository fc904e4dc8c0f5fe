"""Collapse and restarts, on training that really collapses: a high learning rate does it to this encoder's seed 3.

There is no dropout: which numbers it draws depends on whether kernels are in use, and with them who collapses.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from bertune.training.loop import loop
from bertune.training.loop.loop import update as real_update
from bertune.training.result import TrainResult
from bertune.training.runs import restarts as tries
from bertune.training.train import train
from tests.tiny import opinions, same_weights, write_encoder, write_rows

Run = Callable[..., TrainResult]
Log = pytest.LogCaptureFixture


@pytest.fixture
def run(tmp_path: Path, caplog: Log, monkeypatch: pytest.MonkeyPatch) -> Run:
    """60 updates under which seed 3 collapses and seed 4 learns; the keywords are options that differ."""
    write_encoder(tmp_path / "encoder", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    usual: dict[str, Any] = {
        "task": "text-classification",
        "encoder": tmp_path / "encoder",
        "train": write_rows(tmp_path / "train.csv", opinions(96)),
        "validation": write_rows(tmp_path / "dev.csv", opinions(32, seed=1)),
        "max_seq_length": 32,
        "batch_size": 8,
        "learning_rate": 5e-2,
        "epochs": 5,
        "seed": 3,
        "precision": "fp32",
        "device": "cpu",
    }
    monkeypatch.setattr(logging.getLogger("bertune"), "propagate", True)
    caplog.set_level("WARNING", "bertune")

    def start(folder: str, **more: Any) -> TrainResult:
        return train(**(usual | {"output": tmp_path / folder} | more))

    return start


def record(folder: Path) -> dict[str, Any]:
    """What metrics.json tells of the run."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["record"]
    return found


def test_a_collapse_is_told_once_with_what_to_try(run: Run, tmp_path: Path, caplog: Log) -> None:
    result = run("one")
    assert result.metrics["accuracy"] == 0.5
    messages = [message for message in caplog.messages if "collapsed" in message]
    assert len(messages) == 1
    assert "with seed 3 collapsed: every validation row gets the same answer" in messages[0]
    assert "training loss after the warm-up" in messages[0]
    assert all(part in caplog.text for part in ("--restarts", "--learning-rate", "--warmup-ratio", "--seed"))
    assert "gets the same answer" in record(tmp_path / "one")["collapse"]
    assert not (tmp_path / "one" / "tries.json").exists()


def test_a_run_that_learns_is_left_alone(run: Run, tmp_path: Path, caplog: Log) -> None:
    result = run("one", seed=4, restarts=3)
    assert result.metrics["accuracy"] > 0.9
    assert "collapse" not in caplog.text
    assert (record(tmp_path / "one")["collapse"], record(tmp_path / "one")["seed"]) == (None, 4)


def collapse_after(patch: pytest.MonkeyPatch, step: int) -> None:
    """From a step on the head knows one answer."""

    def collapses(parts: Any, plan: Any, rows: Any, progress: Any) -> Any:
        numbers = real_update(parts, plan, rows, progress)
        if progress.step + 1 >= step:
            with torch.no_grad():
                for weight in parts.network.head.parameters():
                    weight.zero_()
        return numbers

    patch.setattr(loop, "update", collapses)


def test_a_late_collapse_is_told_with_the_step_of_the_good_model(
    run: Run, tmp_path: Path, caplog: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse_after(monkeypatch, 50)  # evaluations are at 12, 24, … 84
    result = run("one", seed=4, restarts=3, epochs=7, learning_rate=1e-2)
    assert result.metrics["accuracy"] > 0.9
    (told,) = [message for message in caplog.messages if "collapsed" in message]
    found = record(tmp_path / "one")
    assert found["best_step"] in (12, 24, 36, 48)
    assert f"after step {found['best_step']}, whose model (accuracy" in told
    assert "from step 60 on every validation row" in told
    assert all(part in told for part in ("--learning-rate", "--warmup-ratio"))
    assert found["late_collapse"] in told
    assert (found["collapse"], found["given_up"]) == (None, [])


def test_a_resumed_run_knows_of_a_late_collapse(
    run: Run, tmp_path: Path, caplog: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    collapse_after(monkeypatch, 50)
    run("one", seed=4, epochs=7, learning_rate=1e-2)
    caplog.clear()
    run("one", seed=4, epochs=7, learning_rate=1e-2, resume=True)
    assert "from step 60 on every validation row" in caplog.text


def test_restarts_are_runs_with_the_next_seeds(run: Run, tmp_path: Path, caplog: Log) -> None:
    restarted = run("one", restarts=2)
    assert restarted.metrics["accuracy"] > 0.9
    assert "starting again with seed 4 (1 of --restarts 2)" in caplog.text
    run("two", seed=4)
    assert same_weights(tmp_path / "one", tmp_path / "two")
    found = record(tmp_path / "one")
    assert (found["seed"], found["collapse"]) == (4, None)
    (given_up,) = found["given_up"]
    assert (given_up["seed"], given_up["steps"], given_up["metrics"]["accuracy"]) == (3, 60, 0.5)
    assert "gets the same answer" in given_up["collapse"]


def test_without_validation_the_training_loss_tells(run: Run, tmp_path: Path) -> None:
    run("one", validation=None, validation_share=0)
    assert record(tmp_path / "one")["collapse"].startswith("the training loss after the warm-up is 0.7")
    run("two", validation=None, validation_share=0, seed=4)
    assert record(tmp_path / "two")["collapse"] is None


def test_no_restart_is_left(run: Run, tmp_path: Path, caplog: Log) -> None:
    run("one", learning_rate=0.3, epochs=2, restarts=1)
    assert "no restart is left" in caplog.text
    found = record(tmp_path / "one")
    assert found["collapse"] is not None
    assert found["seed"] == 4
    assert [one["seed"] for one in found["given_up"]] == [3]


class StoppedError(Exception):
    """What stops a run in these tests."""


def stop_at(patch: pytest.MonkeyPatch, at: int) -> None:
    """Stop before the update with this number, counted through all tries."""
    calls = [0]

    def stops(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise StoppedError
        return real_update(*arguments)

    patch.setattr(loop, "update", stops)


@pytest.mark.parametrize("at", [30, 61, 64, 100])
def test_a_restarted_run_goes_on_exactly(run: Run, tmp_path: Path, at: int) -> None:
    run("whole", restarts=2)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, at)
        with pytest.raises(StoppedError):
            run("stopped", restarts=2)
    run("stopped", restarts=2, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    told = [record(tmp_path / name) for name in ("whole", "stopped")]
    for one in told:
        for metrics in [one.pop("wall_seconds"), *(tried["metrics"] for tried in one["given_up"])][1:]:
            del metrics["examples_per_second"]
    assert told[0] == told[1]


def test_a_stop_between_giving_up_and_starting_again(run: Run, tmp_path: Path) -> None:
    """The given-up try's checkpoints are there still; they are not taken up."""
    run("whole", restarts=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tries, "_remove_checkpoints", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("stopped", restarts=2)
    assert list((tmp_path / "stopped" / "checkpoints").iterdir())
    run("stopped", restarts=2, resume=True)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    assert record(tmp_path / "stopped")["seed"] == 4


def test_a_finished_run_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    run("one", restarts=2)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    run("two", restarts=2, resume=True)
    assert same_weights(tmp_path / "one", tmp_path / "two")
    assert record(tmp_path / "two")["seed"] == 4
