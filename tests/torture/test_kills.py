"""SIGKILL at any moment: no run that cannot go on, no half-written model folder, no difference in what comes out."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.nursery import Nursery, command_line
from tests.runs import KINDS, differences, prepare
from tests.torture.kills import kill_loop

DENSE = {"checkpoint_every": 1, "max_steps": 18}
"""Much of the time goes into writing, so many a kill falls there."""


def _options(folder: Path, task: str, **more: object) -> dict[str, object]:
    return prepare(folder, task) | DENSE | more


@pytest.mark.parametrize("task", ["text-classification", "pretraining"])
def test_a_few_kills(nursery: Nursery, tmp_path: Path, task: str) -> None:
    figures = kill_loop(nursery, tmp_path, _options(tmp_path, task), kills=4, seed=1)
    assert figures.kills >= 4


@pytest.mark.torture
@pytest.mark.parametrize(
    ("task", "precision", "seed"),
    [(task, precision, seed) for seed, (task, precision) in enumerate(itertools.product(KINDS, ("fp32", "bf16")))],
)
def test_many_kills(nursery: Nursery, tmp_path: Path, task: str, precision: str, seed: int) -> None:
    begun = time.monotonic()
    figures = kill_loop(nursery, tmp_path, _options(tmp_path, task, precision=precision), kills=6, seed=seed)
    print(f"\n{task} {precision}: {figures}, {time.monotonic() - begun:.0f} s", file=sys.__stderr__)
    assert figures.kills >= 6


@pytest.mark.torture
def test_the_real_command_is_killed(tmp_path: Path) -> None:
    """Without forks: the command as a person starts it, from the import of PyTorch on."""
    options, chance = _options(tmp_path, "text-classification", max_steps=60), random.Random(3)
    arguments = [sys.executable, "-m", "bertune"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    begun = time.monotonic()
    subprocess.run([*arguments, *map(str, command_line(options, tmp_path / "whole"))], check=True, env=environment)
    took, killed = time.monotonic() - begun, 0
    for _ in range(5):
        output = tmp_path / "run"
        resume = ["--resume"] if (output / "run.yaml").is_file() else []
        process = subprocess.Popen([*arguments, *map(str, command_line(options, output)), *resume], env=environment)
        try:
            process.wait(chance.uniform(0.3, 1) * took)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            killed += 1
        process.wait()
    resume = ["--resume"] if (tmp_path / "run" / "run.yaml").is_file() else []
    subprocess.run(
        [*arguments, *map(str, command_line(options, tmp_path / "run")), *resume], check=True, env=environment
    )
    assert killed
    assert differences(tmp_path / "whole", tmp_path / "run") == []
