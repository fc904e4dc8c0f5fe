"""`train --time-limit`: kept, planned for, and refused where it is too short."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

import bertune
from bertune.errors import InputError
from bertune.network import Batch
from bertune.training import time_limit
from bertune.training.launch import TrainingJob
from tests import tiny


def options(folder: Path, **changes: object) -> dict[str, Any]:
    """A run that would take minutes."""
    tiny.write_encoder(folder / "encoder")
    return {
        "task": "text-classification", "encoder": folder / "encoder", "max_seq_length": 32, "batch_size": 8,
        "train": tiny.write_rows(folder / "train.jsonl", tiny.opinions(96)), "learning_rate": 1e-2, "epochs": 5000,
        "validation": tiny.write_rows(folder / "dev.jsonl", tiny.opinions(32, seed=1)), "precision": "fp32",
        "output": folder / "out", **changes,
    }  # fmt: skip


def test_a_limit_is_kept_and_the_model_is_whole(tmp_path: Path) -> None:
    began = time.monotonic()
    found = bertune.train(**options(tmp_path, time_limit="6s"))
    assert time.monotonic() - began < 6 * 1.05
    record = json.loads((tmp_path / "out/metrics.json").read_text())["record"]
    assert 12 < found.steps == record["steps"] < 60_000
    assert bertune.load(tmp_path / "out").predict(["the film is good"])[0]["label"] in {"good", "bad"}


def test_what_is_measured_before_the_run_is_a_typical_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the first rows of the file, which are the longest here."""
    probed, real = list[int](), time_limit._timed

    def look(job: TrainingJob, batch: Batch) -> tuple[float, float]:
        probed.append(len(batch.input_ids))
        probed.append(int(job.lengths.sum()) if job.lengths is not None else 0)
        return real(job, batch)

    monkeypatch.setattr(time_limit, "_timed", look)
    rows = tiny.opinions(96)
    rows[:16] = [{**row, "text": " ".join([str(row["text"])] * 5)} for row in rows[:16]]
    bertune.train(**options(tmp_path, train=tiny.write_rows(tmp_path / "long.jsonl", rows), time_limit="10m", epochs=1))
    assert probed[0] == pytest.approx(probed[1] / 96 * 8, rel=0.2)


def test_seeds_share_the_limit(tmp_path: Path) -> None:
    began = time.monotonic()
    found = bertune.train(**options(tmp_path, time_limit="8s", seeds="1,2"))
    assert time.monotonic() - began < 8 * 1.05
    steps = json.loads((tmp_path / "out/seeds.json").read_text())["seeds"]
    assert min(one["steps"] for one in steps.values()) > 12
    assert found.more["mean"]["accuracy"] > 0


def test_restarts_share_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bertune.training.fine_tune.collapse_of", lambda state, *_: "alike" if (state.seed or 0) < 44 else None
    )
    began = time.monotonic()
    bertune.train(**options(tmp_path, time_limit="6s", restarts=2))
    assert time.monotonic() - began < 6 * 1.05
    assert [one["seed"] for one in json.loads((tmp_path / "out/tries.json").read_text())["given_up"]] == [42, 43]
    record = json.loads((tmp_path / "out/metrics.json").read_text())["record"]
    assert record["steps"] > 12  # the last try had time


def test_several_runs_share_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(tmp_path)
    runs = [{"name": str(rate), "learning_rate": rate} for rate in (1e-2, 1e-3)]
    shared = {name: str(value) for name, value in given.items() if name in ("task", "encoder", "train", "validation")}
    (tmp_path / "runs.yaml").write_text(json.dumps({**shared, "epochs": 5000, "runs": runs}))
    began = time.monotonic()
    command = ["train", "--runs", tmp_path / "runs.yaml", "--output", tmp_path / "out", "--max-seq-length", "32"]
    tiny.done(capsys, *command, "--time-limit", "7s", "--json")
    assert time.monotonic() - began < 7 * 1.05
    steps = [json.loads((tmp_path / f"out/{run['name']}/metrics.json").read_text())["record"]["steps"] for run in runs]
    assert min(steps) > 12


def test_the_message_names_the_preset_and_not_what_it_sets(tmp_path: Path) -> None:
    few = tiny.write_rows(tmp_path / "few.jsonl", tiny.opinions(3))
    with pytest.raises(InputError) as error:
        bertune.train(**options(tmp_path, preset="best", validation=None, train=few))
    assert "preset best (with patience 3, which it sets) needs" in str(error.value)


def test_what_fits_is_not_shortened(tmp_path: Path) -> None:
    assert bertune.train(**options(tmp_path, time_limit="10m", epochs=1)).steps == 12


def test_a_batch_that_does_not_fit_into_memory_is_measured_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = time_limit._timed, list[int]()

    def short(job: TrainingJob, batch: Batch) -> tuple[float, float]:
        seen.append(len(batch.rows))
        if len(batch.rows) > 2:
            raise MemoryError
        return real(job, batch)

    monkeypatch.setattr(time_limit, "_timed", short)
    assert bertune.train(**options(tmp_path, time_limit="10m", epochs=1)).steps == 12
    assert seen == [8, 4, 2]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"time_limit": "0.01s"}, "give at least"),
        ({"time_limit": "0.01s", "seeds": "1,2"}, "give at least"),
        ({"time_limit": "0.01s", "folds": 3, "validation": None}, "give at least"),
        ({"time_limit": "soon"}, "time_limit soon: expected a duration above zero"),
        ({"time_limit": "-3m"}, "time_limit -3m"),
        ({"time_limit": "0.01s", "restarts": 2}, "give at least"),
        ({"time_limit": "0.01s", "validation": None}, "give at least"),  # rows are held out only later
        ({"time_limit": "0.01s", "validation": None, "preset": "best", "epochs": None}, "give at least"),
        ({"time_limit": "0.01s", "validation": None, "patience": 3}, "give at least"),
        ({"time_limit": "0.01s", "soup": 2}, "give at least"),
    ],
)
def test_limits_that_cannot_be_are_refused_before_anything_is_written(
    changes: dict[str, object], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as error:
        bertune.train(**options(tmp_path, **changes))
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()
