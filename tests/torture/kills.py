"""Kill training processes at random moments, resume each to its end, and compare with a run that never was killed."""

import json
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bertune
from bertune.model.record import MODEL_FILE
from tests.nursery import Child, Nursery, command_line
from tests.runs import differences

MOST_KILLS = 4
"""Of one run, before it may finish."""


@dataclass
class Figures:
    """runs: finished, after kills.  kills: that hit a process at work.  fallbacks: a checkpoint was damaged.

    saving, writing: kills that left a half-moved model, a half-written checkpoint or model beside.
    """

    runs: int = 0
    kills: int = 0
    before_run: int = 0
    before_checkpoint: int = 0
    saving: int = 0
    writing: int = 0
    fallbacks: int = 0


def kill_loop(nursery: Nursery, folder: Path, options: dict[str, Any], kills: int, seed: int) -> Figures:
    """Until so many kills have hit.

    Raises:
        AssertionError: a run that cannot go on, a model folder that does not load, a difference at the end.
    """
    chance, figures = random.Random(seed), Figures()
    whole = folder / "whole"
    for output in (folder / "first", whole):  # the first also fills caches
        begun = time.monotonic()
        assert nursery.start(*command_line(options, output)).wait() == 0
        took = time.monotonic() - begun
    assert not differences(folder / "first", whole)
    while figures.kills < kills:
        output = folder / f"run-{figures.runs}"
        _one_run(nursery, output, options, [chance.uniform(0, took) for _ in range(MOST_KILLS)], figures)
        figures.runs += 1
        found = differences(whole, output)
        assert not found, f"{output}: {found}"
        assert not list(output.rglob(".*")), f"{output}: {list(output.rglob('.*'))}"
    return figures


def _one_run(
    nursery: Nursery, output: Path, options: dict[str, Any], moments: Sequence[float], figures: Figures
) -> None:
    for moment in (*moments, None):
        resume = ["--resume"] if (output / "run.yaml").is_file() else []
        child = nursery.start(*command_line(options, output), *resume)
        if moment is not None:
            time.sleep(moment)
            child.send(signal.SIGKILL)
        status = child.wait()
        figures.fallbacks += "looking for the one before" in child.told
        if status == 0:
            return
        assert status == -signal.SIGKILL, f"{output}: ended with {status}:\n{child.told}"
        figures.kills += 1
        _look(output, figures, child)
    raise AssertionError(f"{output}: the last process was not killed and has not finished")


def _look(output: Path, figures: Figures, child: Child) -> None:
    """What a kill left: nothing, or a model that loads."""
    figures.before_run += not (output / "run.yaml").is_file()
    figures.before_checkpoint += not list(output.glob("checkpoints/step-*"))
    figures.saving += (output / ".saved").is_dir()
    figures.writing += bool([*output.glob(".writing-*"), *output.glob("checkpoints/.*")])
    if not (output / MODEL_FILE).is_file():
        return
    try:
        bertune.load(output, device="cpu")
    except bertune.InputError as error:
        raise AssertionError(f"{output}: half a model: {error}\n{child.told}") from error
    json.loads((output / "metrics.json").read_text(encoding="utf-8"))
