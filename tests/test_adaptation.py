"""`train --adapt`: three runs and what further pre-training brought, going on after a stop, refusals."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

import bertune
from bertune import adaptation
from bertune.errors import InputError, Interrupted
from bertune.pretraining.pretrain import run
from tests import tiny


def options(folder: Path, **changes: object) -> dict[str, Any]:
    if not (folder / "encoder").exists():
        tiny.write_encoder(folder / "encoder")
        tiny.write_rows(folder / "train.csv", tiny.opinions(48))
        lines = [str(row["text"]) for row in tiny.opinions(64, seed=3)]
        (folder / "corpus.txt").write_text("\n\n".join("\n".join(lines[i : i + 2]) for i in range(0, 64, 2)) + "\n")
    return {
        "task": "text-classification", "encoder": folder / "encoder", "train": folder / "train.csv", "batch_size": 8,
        "max_seq_length": 32, "learning_rate": 1e-2, "epochs": 2, "precision": "fp32", "output": folder / "out",
        "validation_share": 0.25, **changes,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))


def test_the_gain_is_reported_and_all_three_runs_are_there(tmp_path: Path) -> None:
    given = options(tmp_path)
    found = bertune.adapt(tmp_path / "corpus.txt", adapt_epochs=1, **given)
    out = tmp_path / "out"
    told = json.loads((out / "adaptation.json").read_text())
    with_it, without = bertune.load(out), bertune.load(out / "without")
    assert with_it.record["encoder"] == str(out / "adapted")
    assert without.record["encoder"] == str(tmp_path / "encoder")
    assert told["gain"] == pytest.approx(told["after"] - told["before"]) == found.gain
    assert told["after"] == json.loads((out / "metrics.json").read_text())["accuracy"]
    assert told["low"] <= told["gain"] <= told["high"]
    assert len(told["losses"]) == 2
    assert ("did not help" in found.verdict()) == (found.gain <= 0)


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = options(tmp_path)

    def stops(options: Any, **_: Any) -> Any:
        raise Interrupted(signal.SIGTERM, "nothing is kept")

    monkeypatch.setattr(adaptation, "pretrain", stops)
    with pytest.raises(Interrupted):
        bertune.adapt(tmp_path / "corpus.txt", adapt_epochs=1, **given)
    weights = (tmp_path / "out/without/model.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(adaptation, "pretrain", run)
    with pytest.raises(InputError, match="holds another run"):
        bertune.adapt(tmp_path / "corpus.txt", adapt_epochs=1, **given)
    found = bertune.adapt(tmp_path / "corpus.txt", adapt_epochs=1, **given, resume=True)
    assert (tmp_path / "out/without/model.safetensors").stat().st_mtime_ns == weights
    assert 0 <= found.after <= 1


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(tmp_path)
    answer = tiny.done(
        capsys, "train", "--task", "text-classification", "--encoder", given["encoder"], "--train", given["train"],
        "--output", given["output"], "--adapt", tmp_path / "corpus.txt", "--adapt-epochs", "1", "--max-steps", "2",
        "--max-seq-length", "32", "--json",
    )  # fmt: skip
    told = json.loads(answer.out)
    assert told["adaptation"]["metric"] == "accuracy"
    assert "adapting" in answer.err


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"validation_share": 0}, "adapt: what it brings is measured on validation data"),
        ({"folds": 3, "validation_share": None}, "folds: does not go with adapt"),
        ({"time_limit": "0.01s"}, "give at least"),
        ({"label_column": "nosuch"}, "nosuch"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, object], told: str, tmp_path: Path) -> None:
    given = {name: value for name, value in options(tmp_path, **changes).items() if value is not None}
    with pytest.raises(InputError) as error:
        bertune.adapt(tmp_path / "corpus.txt", **given)
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_three_runs_share_a_time_limit(tmp_path: Path) -> None:
    given, began = options(tmp_path, epochs=5000, time_limit="15s"), time.monotonic()
    found = bertune.adapt(tmp_path / "corpus.txt", adapt_epochs=5000, **given)
    assert time.monotonic() - began < 15 * 1.05
    for name in ("", "without", "adapted"):
        assert json.loads((tmp_path / "out" / name / "metrics.json").read_text())["record"]["steps"] > 0
    assert found.result.steps > 10


def test_text_that_is_not_there_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nosuch\.txt"):
        bertune.adapt(tmp_path / "nosuch.txt", **options(tmp_path))
    assert not (tmp_path / "out").exists()
