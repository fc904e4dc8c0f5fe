"""`train --soup`: the mean of the weights of several runs from the same start; time limit, going on after a stop."""

import dataclasses
import json
import logging
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import bertune
from bertune.errors import InputError, Interrupted
from bertune.training import launch, soup
from bertune.training.fine_tune import fine_tune
from tests import tiny


def options(folder: Path, **changes: object) -> dict[str, Any]:
    """Three short runs."""
    if not (folder / "encoder").exists():
        tiny.write_encoder(folder / "encoder")
        tiny.write_rows(folder / "train.jsonl", tiny.opinions(96))
        tiny.write_rows(folder / "dev.jsonl", tiny.opinions(64, seed=1))
    return {
        "task": "text-classification", "encoder": folder / "encoder", "max_seq_length": 32, "batch_size": 8,
        "train": folder / "train.jsonl", "validation": folder / "dev.jsonl", "learning_rate": 1e-2, "epochs": 8,
        "precision": "fp32", "output": folder / "out", "soup": 3, "calibration": False, **changes,
    }  # fmt: skip


@pytest.fixture
def kept_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the folders of the single runs where they are."""
    real = shutil.rmtree
    monkeypatch.setattr(
        "bertune.training.soup.shutil.rmtree",
        lambda path, **how: None if Path(path).name == soup.RUNS else real(path, **how),
    )


@pytest.mark.usefixtures("kept_runs")
def test_the_model_is_the_mean_of_the_runs(tmp_path: Path) -> None:
    found = bertune.train(**options(tmp_path))
    runs = [tiny.weights(tmp_path / "out/runs" / name) for name in "123"]
    top = tiny.weights(tmp_path / "out")
    for name, tensor in top.items():
        mean = torch.stack([one[name] for one in runs]).double().mean(0).float()
        assert torch.allclose(tensor, mean, atol=1e-7), name
    assert not torch.equal(runs[0]["classifier.weight"], runs[1]["classifier.weight"])
    assert found.steps == 3 * 96
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["soup"]["kept"] == "mean"
    assert len(metrics["soup"]["runs"]) == 3
    assert metrics["accuracy"] == found.metrics["accuracy"] > 0.8
    assert metrics["record"]["seed"] == 42
    model = bertune.load(tmp_path / "out")
    assert model.evaluate(tmp_path / "dev.jsonl")["accuracy"] == metrics["accuracy"]
    assert model.record["options"]["soup"] == 3


def test_runs_begin_alike_and_see_the_rows_in_another_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads, seeds = list[Any](), list[int]()

    def look(run: Any) -> Any:
        heads.append(run.new_network().head.state_dict())
        seeds.append(run.options.seed)
        return fine_tune(run)

    monkeypatch.setattr(soup, "fine_tune", look)
    bertune.train(**options(tmp_path, max_steps=2, reinitialize_layers=1, report=False))
    assert seeds == [42, 43, 44]
    assert all(torch.equal(heads[0][name], head[name]) for head in heads for name in head)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == []


def test_a_mean_that_is_worse_than_its_runs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = soup._mean

    def spoiled(found: Any, numbers: Any) -> Any:
        network, mean = real(found, numbers)
        if len(numbers) > 1:
            for name, tensor in mean.items():
                mean[name] = torch.zeros_like(tensor)
            network.load_state_dict(mean)
        return network, mean

    monkeypatch.setattr(soup, "_mean", spoiled)
    found = bertune.train(**options(tmp_path))
    told = json.loads((tmp_path / "out/soup.json").read_text())
    values = [one["metrics"]["accuracy"] for one in told["runs_made"]]
    assert told["kept"] == f"run {values.index(max(values)) + 1}"
    assert found.metrics["accuracy"] == max(values)


def test_collapsed_runs_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "bertune.training.fine_tune.collapse_of", lambda state, *_: "alike" if state.seed == 43 else None
    )
    found = bertune.train(**options(tmp_path))
    assert found.more["soup"]["averaged"] == [1, 3]
    assert found.collapse is None


def test_a_stopped_soup_goes_on_with_the_run_that_was_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bertune.train(**options(tmp_path, output=tmp_path / "whole", epochs=2))
    calls = list[str]()

    def stops(run: Any) -> Any:
        calls.append(Path(run.options.output).name)
        if len(calls) == 2:
            raise Interrupted(signal.SIGTERM)
        return fine_tune(run)

    monkeypatch.setattr(soup, "fine_tune", stops)
    with pytest.raises(Interrupted):
        bertune.train(**options(tmp_path, epochs=2))
    bertune.train(**options(tmp_path, epochs=2, resume=True))
    assert calls == ["1", "2", "2", "3"]
    assert tiny.same_weights(tmp_path / "whole", tmp_path / "out")
    again = bertune.train(**options(tmp_path, epochs=2, resume=True))  # is finished
    assert calls == ["1", "2", "2", "3"]
    assert again.steps == 3 * 24


def test_earlier_sessions_count_for_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two runs under a limit the second is cut; what the first took is not given again."""
    limits = list[float]()

    def stops(run: Any) -> Any:
        limits.append(run.clock.whole.left)
        if len(limits) == 2:
            raise Interrupted(signal.SIGTERM)
        return fine_tune(run)

    monkeypatch.setattr(soup, "fine_tune", stops)
    given = options(tmp_path, soup=2, epochs=2, time_limit="10m")
    with pytest.raises(Interrupted):
        bertune.train(**given)
    path = tmp_path / "out/soup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 400.0}))
    bertune.train(**{**given, "resume": True})
    assert limits[2] < 200 < limits[1]


@pytest.mark.parametrize("count", ["auto", 3])
def test_the_limit_covers_all_runs(count: object, tmp_path: Path) -> None:
    began = time.monotonic()
    found = bertune.train(**options(tmp_path, soup=count, epochs=100 if count == "auto" else 5000, time_limit="9s"))
    assert time.monotonic() - began < 9 * 1.05
    assert found.steps > 3 * 12
    if count != "auto":
        assert len(found.more["soup"]["runs"]) <= 3


def test_auto_makes_one_run_where_no_other_fits(tmp_path: Path) -> None:
    found = bertune.train(**options(tmp_path, soup="auto", epochs=50_000, time_limit="5s"))
    assert "soup" not in found.more
    assert not (tmp_path / "out/soup.json").exists()


def test_a_run_of_its_own_is_judged_at_its_end_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no second run fits, no time goes into evaluations before the end; checkpoints are kept on the way."""
    monkeypatch.setattr(soup, "_KEPT_EVERY", 0.0)
    given = options(tmp_path, soup="auto", epochs=50_000, time_limit="8s")
    plans, real = list[Any](), launch.launch

    def stops(job: Any, *rest: Any, **more: Any) -> Any:
        plans.append(job.config)
        made = 0

        def loss(*args: Any) -> Any:
            nonlocal made
            made += 1
            if made > job.config.checkpoint_every + 10 and len(plans) == 1:
                raise Interrupted(signal.SIGTERM)
            return job.loss(*args)

        return real(dataclasses.replace(job, loss=loss), *rest, **more)

    monkeypatch.setattr("bertune.training.fine_tune.launch", stops)
    with pytest.raises(Interrupted):
        bertune.train(**given)
    assert plans[0].check_every == 50_000 * 12
    assert "checkpoint_every: null" in (tmp_path / "out/run.yaml").read_text()  # measured here, for here
    assert not (tmp_path / "out/soup.json").exists()
    with caplog.at_level(logging.INFO):
        found = bertune.train(**{**given, "resume": True})
    assert any(message.startswith("going on from") for message in caplog.messages)
    assert found.steps > plans[0].checkpoint_every
    assert "soup" not in found.more
    told = json.loads((tmp_path / "out/metrics.json").read_text())
    assert told["record"]["best_step"] == found.steps


def test_a_run_of_its_own_with_patience_is_judged_after_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans, real = list[Any](), launch.launch

    def look(job: Any, *rest: Any, **more: Any) -> Any:
        plans.append(job.config)
        return real(job, *rest, **more)

    monkeypatch.setattr("bertune.training.fine_tune.launch", look)
    found = bertune.train(**options(tmp_path, soup="auto", epochs=50_000, time_limit="6s", patience=2))
    assert (plans[0].check_every, plans[0].checkpoint_every) == (None, None)
    assert found.steps < 50_000 * 12


def test_without_a_limit_a_run_keeps_a_checkpoint_after_every_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = list[Any]()

    def look(job: Any, *_: Any, **__: Any) -> Any:
        plans.append(job.config)
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr("bertune.training.fine_tune.launch", look)
    with pytest.raises(Interrupted):
        bertune.train(**options(tmp_path))
    assert (plans[0].check_every, plans[0].checkpoint_every) == (8 * 12, 12)


def test_auto_makes_no_more_than_some(tmp_path: Path) -> None:
    found = bertune.train(**options(tmp_path, soup="auto", max_steps=1, time_limit="30m"))
    assert len(found.more["soup"]["runs"]) == soup.MOST


def test_the_preset_makes_a_soup_where_time_is_limited(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = options(tmp_path, soup=None, preset="best", epochs=None, max_steps=2, time_limit="20m", baselines=True)
    found = bertune.train(**{name: value for name, value in given.items() if value is not None})
    assert len(found.more["soup"]["runs"]) == soup.MOST
    assert "baselines" in found.more
    capsys.readouterr()
    alone = {**given, "seeds": "1,2", "output": tmp_path / "seeds"}
    found = bertune.train(**{name: value for name, value in alone.items() if value is not None})
    assert "soup" not in found.more


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    bertune.train(**options(tmp_path, max_steps=1))
    for damaged in ("[]", "{}", '{"count": 3, "seconds": 1, "runs_made": [1]}', "{"):
        (tmp_path / "out/soup.json").write_text(damaged)
        with pytest.raises(InputError, match=r"soup\.json"):
            bertune.train(**options(tmp_path, max_steps=1, resume=True))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"soup": 0}, "soup 0: must be at least 1"),
        ({"soup": "many"}, "soup"),
        ({"soup": "auto"}, "soup auto: makes as many runs as time_limit has room for"),
        ({"seeds": "1,2"}, "seeds 1,2: does not go with soup"),
        ({"restarts": 2}, "restarts 2: does not go with soup"),
        ({"folds": 3, "validation": None}, "folds 3: does not go with soup"),
        ({"average_last": 3}, "average_last 3: does not go with soup"),
        ({"label_margins": True}, ": does not go with soup, whose runs are all averaged"),
        ({"validation": None, "validation_share": 0}, "soup 3: validation data must show"),
        ({"time_limit": "0.01s"}, "give at least"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        bertune.train(**options(tmp_path, **changes))
    assert told in str(error.value)
    assert not (tmp_path / "out").exists()
