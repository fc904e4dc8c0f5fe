"""`bertune sweep` under torchrun: ranks try settings side by side and write one journal."""

import json
import signal
from pathlib import Path

from bertune import load
from tests.nursery import Child, Nursery
from tests.sweep.test_sweep import arguments


def found(output: Path) -> list[dict[str, object]]:
    """Trials of a finished sweep."""
    trials: list[dict[str, object]] = json.loads((output / "sweep.json").read_text("utf-8"))["trials"]
    return trials


def told(children: list[Child]) -> str:
    return "\n".join(child.told for child in children)


def test_ranks_try_settings_side_by_side(nursery: Nursery, tmp_path: Path) -> None:
    command, output = arguments(tmp_path, "10m", "--trials", "4", "--json"), tmp_path / "out"
    children = nursery.ranks(2, *command)
    assert [child.wait() for child in children] == [0, 0], told(children)
    assert children[1].told == ""
    assert "side by side on 2 ranks" in children[0].told
    assert len(found(output)) == 4
    final = json.loads((output / "sweep.json").read_text("utf-8"))["final"]
    assert list(final["seeds"]) == ["1042", "1043"]
    assert json.loads((output / "metrics.json").read_text("utf-8"))["accuracy"] == max(final["seeds"].values())
    assert load(output).predict(["the film is good"])[0]["label"] in {"good", "bad"}
    assert not (output / "trials").exists()
    again = nursery.ranks(2, *command)
    assert [child.wait() for child in again] == [2, 2]
    assert told(again).count("holds another sweep") == 1


def test_killed_ranks_lose_the_trials_that_they_were_at(nursery: Nursery, tmp_path: Path) -> None:
    command, output = arguments(tmp_path, "10m", "--trials", "4"), tmp_path / "out"
    children = nursery.ranks(2, *command)
    while len(list(output.glob("trials/000*.process"))) < 2:  # a rank tries one setting at a time
        assert not any(child.ended() for child in children), told(children)
    for child in children:
        child.send(signal.SIGKILL)
        child.wait()
    alone = nursery.start(*command, "--resume")
    assert alone.wait() == 0, alone.told
    assert len(found(output)) == 4
