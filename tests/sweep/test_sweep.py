"""Whole sweeps with a tiny encoder: budget, results, kill and resume, refusals."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import bertune
from bertune.errors import InputError
from bertune.sweep.journal import held, open_study
from bertune.sweep.options import SweepOptions
from bertune.sweep.sweep import run as sweep
from bertune.sweep.trials import TrialResult, Trials
from bertune.training.runs.seeds import Seeds
from tests import tiny

WIDE = "learning_rate: {low: 1e-4, high: 1e-2, log: true}\nepochs: [5, 10, 40]\n"
SPACE = "learning_rate: [1e-2, 3e-3]\nepochs: [2, 3]\nbatch_size: [8]\n"


def arguments(folder: Path, limit: str, *more: object, output: str = "out") -> list[object]:
    """A sweep over tiny data in a folder."""
    if not (folder / "encoder").exists():
        tiny.write_encoder(folder / "encoder")
        tiny.write_rows(folder / "train.jsonl", tiny.opinions(96))
        tiny.write_rows(folder / "dev.jsonl", tiny.opinions(32, seed=1))
        (folder / "space.yaml").write_text(SPACE)
    return [
        "sweep", "--task", "text-classification", "--encoder", folder / "encoder", "--train", folder / "train.jsonl",
        "--validation", folder / "dev.jsonl", "--space", folder / "space.yaml", "--max-seq-length", "32", "--device",
        "cpu", "--time-limit", limit, "--final-seeds", "2", "--output", folder / output, *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of three trials."""
    folder = tmp_path_factory.mktemp("swept")
    command = [sys.executable, "-m", "bertune", *map(str, arguments(folder, "10m", "--trials", "3"))]
    subprocess.run(command, check=True)
    return folder / "out"


def test_the_best_model_lies_on_top_as_train_leaves_it(swept: Path) -> None:
    found = json.loads((swept / "sweep.json").read_text())
    metrics = json.loads((swept / "metrics.json").read_text())
    seeds = found["final"]["seeds"]
    assert len(seeds) == 2
    assert 0 < found["overhead"] < 1
    assert metrics["accuracy"] == max(seeds.values())
    assert found["final"]["mean"] == pytest.approx(sum(seeds.values()) / 2)
    assert found["final"]["optimism"] == pytest.approx(found["winner"]["value"] - found["final"]["mean"])
    assert bertune.load(swept).predict(["the film is good"])[0]["label"] in {"good", "bad"}
    again = tiny.files(swept)
    assert "trials" not in again
    assert not [name for name in again if name.endswith((".process", ".lock"))]


def test_run_yaml_repeats_the_winner(swept: Path) -> None:
    import yaml

    winner = json.loads((swept / "sweep.json").read_text())["winner"]["setting"]
    told = yaml.safe_load((swept / "run.yaml").read_text())
    assert {name: told[name] for name in winner} == winner
    assert told["seeds"] == "1042,1043"
    assert told["time_limit"] is None


def test_trials_differ_and_stand_in_the_table(swept: Path) -> None:
    rows = list(csv.DictReader((swept / "trials.csv").open()))
    assert len(rows) == 3
    assert len({(row["learning_rate"], row["epochs"]) for row in rows}) == 3
    found = json.loads((swept / "sweep.json").read_text())
    assert max(float(row["accuracy"]) for row in rows if row["accuracy"]) == found["winner"]["value"]


def test_the_plot_is_xml_with_a_point_a_trial(swept: Path) -> None:
    tree = ET.parse(swept / "sweep.svg").getroot()
    points = [node for node in tree if node.tag.endswith("circle")]
    found = json.loads((swept / "sweep.json").read_text())["trials"]
    assert len(points) == sum(trial["value"] is not None for trial in found)


def resumed(folder: Path, swept: Path) -> Path:
    """A copy of the finished sweep, which may go on."""
    arguments(folder, "10m")
    shutil.copytree(swept, folder / "out")
    tree = (folder / "out/sweep.yaml").read_text().replace(str(swept.parent), str(folder))
    (folder / "out/sweep.yaml").write_text(tree)
    return folder / "out"


def test_other_values_under_the_same_name_are_refused(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resumed(tmp_path, swept)
    (tmp_path / "space.yaml").write_text(SPACE.replace("[8]", "[8, 16]"))
    command = arguments(tmp_path, "10m", "--trials", "3", "--resume")
    tiny.refused(capsys, tmp_path, command, "space.yaml: batch_size differs from what the sweep to resume in")


def test_a_damaged_journal_is_told_by_its_line(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = resumed(tmp_path, swept) / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    command = arguments(tmp_path, "10m", "--trials", "3", "--resume")
    for damaged in (b"garbage\n", b"[1, 2]\n", b"\xff\xfe\n"):
        journal.write_bytes(b"".join([lines[0], damaged, *lines[2:]]))
        tiny.refused(capsys, tmp_path, command, "journal.log:2: damaged")
    journal.write_bytes(b"".join(lines) + lines[-1][:20])  # killed while it wrote
    study = open_study(tmp_path / "out", "accuracy", 42)
    assert journal.read_bytes().startswith(b"".join(lines))
    study.set_user_attr("elapsed", 1.0)
    assert all(json.loads(line) for line in journal.read_bytes().splitlines())


def test_two_sweeps_do_not_work_in_one_folder(swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = arguments(tmp_path, "10m", "--trials", "3", "--resume")
    with held(resumed(tmp_path, swept)):
        tiny.refused(capsys, tmp_path, command, "another sweep is at work in it")


def test_another_sweep_in_the_folder_is_refused(swept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.refused(capsys, swept.parent, arguments(swept.parent, "5m"), "holds another")


def test_a_limit_too_short_is_refused_with_an_estimate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tiny.refused(capsys, tmp_path, arguments(tmp_path, "0.5s"), "--time-limit 0.5s", "give at least")
    assert "shortest trial" in told


def test_a_sweep_whose_trials_all_fail_ends_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, run = list[str](), Trials.run

    def fails(self: Trials, setting: object, folder: Path, *rest: object, probe: bool = False) -> TrialResult:
        if probe:
            return run(self, setting, folder, *rest, probe=True)  # type: ignore[arg-type]
        real.append(folder.name)
        return TrialResult("failed", 0.1, [], error="the disk is made of cheese")

    monkeypatch.setattr(Trials, "run", fails)
    arguments(tmp_path, "10m")
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1e-4, high: 1e-2}\nepochs: [2]\n")
    with pytest.raises(InputError, match="no trial of 5 brought a value; the last: the disk is made of cheese"):
        sweep(
            SweepOptions(
                task="text-classification", encoder=f"{tmp_path / 'encoder'},{tmp_path / 'encoder'}",
                train=str(tmp_path / "train.jsonl"), validation=str(tmp_path / "dev.jsonl"), max_seq_length=32,
                output=str(tmp_path / "out"), time_limit="10m", space=str(tmp_path / "space.yaml"), device="cpu",
            ),
            {},
        )  # fmt: skip
    assert len(real) == 5


def test_an_unknown_metric_and_resuming_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.refused(capsys, tmp_path, arguments(tmp_path, "5m", "--metric", "beauty"), "--metric beauty")
    tiny.refused(capsys, tmp_path, arguments(tmp_path, "5m", "--resume"), "contains no sweep")
    tiny.refused(capsys, tmp_path, arguments(tmp_path, "soon"), "expected a duration")


def test_a_killed_sweep_goes_on_with_one_trial_lost_at_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "bertune", *map(str, arguments(tmp_path, "10m", "--trials", "4"))]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("out/trials/0001*")):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    tiny.refused(capsys, tmp_path, arguments(tmp_path, "10m"), "continue it with --resume")
    tiny.refused(capsys, tmp_path, arguments(tmp_path, "10m", "--resume", "--seed", "7"), "--seed is 7")
    subprocess.run([*command, "--resume"], check=True)
    found = json.loads((tmp_path / "out/sweep.json").read_text())
    assert len(found["trials"]) == 4
    settings = [json.dumps(trial["setting"], sort_keys=True) for trial in found["trials"]]
    assert len(set(settings)) == 4  # the one that was cut was tried again, no other twice


def test_the_time_limit_is_kept(tmp_path: Path) -> None:
    """Measured from the process's start; the space offers far more than fits."""
    given = arguments(tmp_path, "30s")
    (tmp_path / "space.yaml").write_text(WIDE)
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "bertune", *map(str, given)], check=True)
    found = json.loads((tmp_path / "out/sweep.json").read_text())
    assert found["seconds"] < 30 * 1.05
    assert found["seconds"] < time.monotonic() - began  # imports and the end of Python are not the sweep's
    assert len(found["trials"]) > 1


@pytest.mark.parametrize("slower", [1.0, 1.4, 2.0])
def test_the_winner_is_repeated_on_a_machine_that_becomes_slower(
    slower: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A clock of our own: trials of 2, 4 or 16 s, all of them slower after half of the time."""
    now, seeds = [0.0], list[int]()

    def run(self: Trials, setting: dict[str, Any], folder: Path, *_: object, probe: bool = False) -> TrialResult:
        seconds = (1.0 if probe else 0.4 * setting["epochs"]) * (slower if now[0] > 60 else 1.0)
        speed = 96 * (0.0 if probe else setting["epochs"]) / seconds or 240.0
        now[0] += seconds
        seeds.extend([setting["seed"]] if "seed" in setting else [])
        value = 0.5 if probe else setting["learning_rate"]
        found = {"train_examples_per_second": speed, "eval_examples_per_second": 1e9, "train_seconds": seconds}
        return TrialResult("done", seconds, [], {**found, "accuracy": value}, worked=seconds)

    monkeypatch.setattr(Trials, "run", run)
    clock = SimpleNamespace(monotonic=lambda: now[0])
    for module in ("state", "sweep"):
        monkeypatch.setattr(f"bertune.sweep.{module}.time", clock)
    monkeypatch.setattr("bertune.sweep.repeat._write", lambda *_: None)
    monkeypatch.setattr(
        "bertune.sweep.repeat.run_seeds",
        lambda folder, seeds, metric, train, *, resume: Seeds(
            {seed: train(seed, folder, False).metrics for seed in seeds}, seeds[0], metric, dict.fromkeys(seeds, 1), {}
        ),
    )
    arguments(tmp_path, "2m")
    (tmp_path / "space.yaml").write_text(WIDE)
    found = sweep(
        SweepOptions(
            task="text-classification", encoder=str(tmp_path / "encoder"), train=str(tmp_path / "train.jsonl"),
            validation=str(tmp_path / "dev.jsonl"), max_seq_length=32, output=str(tmp_path / "out"), time_limit="2m",
            space=str(tmp_path / "space.yaml"), device="cpu", final_seeds=2,
        ),
        {},
    )  # fmt: skip
    assert now[0] <= 120 * 1.05
    assert now[0] > 60
    assert found.seeds is not None
    assert len(found.seeds.metrics) == len(seeds) == 2, caplog.text


def test_a_stopped_sweep_says_how_to_go_on_and_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "bertune", *map(str, arguments(tmp_path, "10m", "--trials", "2"))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "out/sweep.yaml").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 143
    _, _, advice = errors.strip().splitlines()[-1].partition("continue with: bertune ")
    tiny.done(capsys, *advice.split())
    assert (tmp_path / "out/sweep.json").exists()
