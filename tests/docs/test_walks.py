"""The walks of CONTRIBUTING through a training step and a prediction: names and order are those of the code."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import bertune
from bertune.encoder.kernels.build import library
from bertune.training import fine_tune
from bertune.training.launch import launch
from bertune.training.loop import loop
from bertune.training.loop.loop import update
from tests import tiny
from tests.docs.walks import Walk

TEXT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
MOST_LINES = 1_300
"""Of the functions that a step passes through, kernels in C not counted."""
MOST_FILES = 10
"""That these functions lie in, the loop's included."""
STEP, PREDICTION = "One training step, in order", "One prediction, in order"


def told(title: str) -> list[str]:
    """`folder/file.py:name` of every step of a walk, as a reader sees them."""
    section = TEXT.split(f"## {title}\n")[1].split("\n## ")[0]
    found = re.findall(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`", section, re.M)
    assert len(found) == len(re.findall(r"^\d+\. ", section, re.M))
    return [f"{file}:{name.rpartition('.')[2]}" for file, name in found]


def came_by(walk: Walk) -> list[str]:
    return [f"{name.partition(':')[0]}:{name.rpartition('.')[2].rpartition(':')[2]}" for name in walk.names]


def in_order(names: list[str], walk: Walk) -> list[str]:
    """Those of the names that the walk came by, in its order."""
    seen = came_by(walk)
    return sorted((name for name in names if name in seen), key=seen.index)


@pytest.fixture
def step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Walk, Walk, Path]:
    """A whole run from `launch` on, its second update alone, and the run's folder."""
    tiny.write_encoder(tmp_path / "encoder")
    whole, alone, count = Walk(), Walk(), iter(range(9))

    def one_update(*arguments: Any) -> Any:
        result: list[Any] = []
        walk = alone if next(count) == 1 else Walk()  # the first also compiles what is not compiled yet
        walk.during(lambda: result.append(update(*arguments)))
        return result[0]

    def run(*arguments: Any, **options: Any) -> Any:
        result: list[Any] = []
        whole.during(lambda: result.append(launch(*arguments, **options)))
        return result[0]

    monkeypatch.setattr(loop, "update", one_update)
    monkeypatch.setattr(fine_tune, "launch", run)
    bertune.train(
        task="text-classification",
        encoder=tmp_path / "encoder",
        train=tiny.write_rows(tmp_path / "train.csv", tiny.opinions(16)),
        output=tmp_path / "out",
        max_seq_length=32,
        batch_size=8,
        max_steps=2,
        device="cpu",
        precision="fp32",
    )
    return whole, alone, tmp_path / "out"


def test_a_training_step(step: tuple[Walk, Walk, Path]) -> None:
    whole, alone, _ = step
    names = told(STEP)
    of_kernels = (
        [name for name in names if name.endswith((":fused", ":backward"))] if library(torch.float32) is None else []
    )
    expected = [name for name in names if name not in of_kernels]
    assert in_order(expected[:2], whole) == expected[:2]
    assert in_order(expected[2:], alone) == expected[2:]
    files = {"training/loop/loop.py", *alone.files}
    print(f"a step on this CPU: {alone.lines} lines of functions in {len(files)} files:", *sorted(files), sep="\n  ")
    assert alone.lines < MOST_LINES
    assert len(files) <= MOST_FILES


def test_a_prediction(step: tuple[Walk, Walk, Path]) -> None:
    model = bertune.load(step[2], device="cpu")
    walk = Walk()
    walk.during(lambda: model.predict(["a good film", "a bad one"]))
    names = told(PREDICTION)
    assert in_order(names, walk) == names
