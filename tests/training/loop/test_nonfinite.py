"""Updates without finite numbers: found where they appear, traced to rows, skipped, counted, and in the end refused."""

import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertune.errors import InputError
from bertune.network import Batch
from bertune.training import fine_tune
from bertune.training.launch import TrainingJob
from bertune.training.loop import nonfinite as health
from bertune.training.result import TrainResult
from bertune.training.train import train
from tests.tiny import opinions, same_weights, weights, write_encoder, write_rows

Run = Callable[..., TrainResult]
Log = pytest.LogCaptureFixture
BAD = 5
"""The training sequence that goes wrong in these tests; line 7 of its file, which has a header."""


@pytest.fixture
def run(tmp_path: Path, caplog: Log) -> Run:
    """Trains a tiny encoder on 24 rows, 3 updates an epoch; the keywords are options that differ."""
    write_encoder(tmp_path / "encoder")
    usual: dict[str, Any] = {
        "task": "text-classification",
        "encoder": tmp_path / "encoder",
        "train": write_rows(tmp_path / "train.csv", opinions(24)),
        "max_seq_length": 32,
        "batch_size": 8,
        "learning_rate": 1e-2,
        "epochs": 3,
        "device": "cpu",
        "validation_share": 0,
    }
    caplog.set_level("WARNING", "bertune")

    def start(folder: str, **more: Any) -> TrainResult:
        return train(**(usual | {"output": tmp_path / folder} | more))

    return start


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages reach pytest even after a test that ran a command, which keeps them for the console."""
    monkeypatch.setattr(logging.getLogger("bertune"), "propagate", True)


def spoil(monkeypatch: pytest.MonkeyPatch, rows: set[int], what: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Training batches that hold one of the rows have their sum of losses changed: logits, sum → sum."""
    make_job = fine_tune._job

    def with_spoilt_loss(*arguments: Any) -> TrainingJob:
        job = make_job(*arguments)

        def spoilt(logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
            total, count = job.loss(logits, batch)
            return (what(logits, total) if rows & set(batch.rows.tolist()) else total), count

        return dataclasses.replace(job, loss=spoilt)

    monkeypatch.setattr(fine_tune, "_job", with_spoilt_loss)


def record(folder: Path) -> dict[str, Any]:
    """What metrics.json tells of the run."""
    found: dict[str, Any] = json.loads((folder / "metrics.json").read_text())["record"]
    return found


def test_a_row_without_a_finite_loss_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Log
) -> None:
    spoil(monkeypatch, {BAD}, lambda _, total: total * torch.nan)
    run("one")
    messages = [message for message in caplog.messages if "skipped (1 in a row)" in message]
    assert len(messages) == 3  # once an epoch
    for message in messages:
        batch, alone = message.split(". By themselves these have none: ")
        assert "loss nan" in batch
        named = batch.partition("train.csv, lines ")[2].split(", ")
        assert len(named) == 8
        assert "7" in named
        assert alone == f"{tmp_path / 'train.csv'}, line 7"
    assert record(tmp_path / "one")["skipped_updates"] == 3
    assert "3 of 9 updates were skipped" in caplog.text
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "one").values())


def test_a_gradient_that_is_not_finite(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Log) -> None:
    def too_large(logits: Tensor, total: Tensor) -> Tensor:
        if logits.requires_grad:
            logits.register_hook(lambda gradient: gradient * torch.inf)  # type: ignore[no-untyped-call]
        return total

    spoil(monkeypatch, {BAD}, too_large)
    run("one", epochs=1)
    assert "the gradients grew too large" in caplog.text
    assert record(tmp_path / "one")["skipped_updates"] == 1


def test_with_accumulation_the_whole_update_is_skipped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, {BAD}, lambda _, total: total + torch.inf)
    run("one", gradient_accumulation=4)
    assert record(tmp_path / "one")["skipped_updates"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in weights(tmp_path / "one").values())


def test_looking_for_the_row_changes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, {BAD}, lambda _, total: total * torch.nan)
    run("one")
    monkeypatch.setattr(health, "traced", lambda *_: "")
    run("two")
    assert same_weights(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("most", [1, 4])
def test_too_many_in_a_row_stop_the_run(run: Run, monkeypatch: pytest.MonkeyPatch, caplog: Log, most: int) -> None:
    spoil(monkeypatch, set(range(24)), lambda _, total: total * torch.nan)
    with pytest.raises(InputError) as error:
        run("one", max_skipped=most)
    told = str(error.value)
    assert f"(max_skipped {most})" in told
    assert "try a lower learning_rate" in told
    assert "the weights are at fault, not the data" in told
    assert sum("in a row)" in message for message in caplog.messages) == most


def test_skipped_here_and_there_is_not_in_a_row(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, {BAD}, lambda _, total: total * torch.nan)
    run("one", epochs=4, max_skipped=3)
    assert record(tmp_path / "one")["skipped_updates"] == 4


def test_weights_that_are_not_finite(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors["encoder.layer.1.output.dense.weight"][3, 5] = torch.nan
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(InputError, match="the weights are at fault"):
        run("one", epochs=9)


def test_nothing_learnt_is_said(run: Run, monkeypatch: pytest.MonkeyPatch, caplog: Log) -> None:
    spoil(monkeypatch, set(range(24)), lambda _, total: total * torch.nan)
    run("one", max_steps=2)
    assert "2 of 2 updates were skipped" in caplog.text
    assert "nothing was learnt" in caplog.text


def test_counts_survive_a_stop(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, {BAD}, lambda _, total: total * torch.nan)
    run("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertune.training.loop.validation.is_better", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run("stopped", checkpoint_every=1)
    run("stopped", resume=True, checkpoint_every=1)
    assert same_weights(tmp_path / "whole", tmp_path / "stopped")
    assert record(tmp_path / "stopped")["skipped_updates"] == 3
