"""torchrun and Ray Train themselves start the ranks: real commands, restarts and the example of the documentation."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.distributed.test_ranks import figures, finished
from tests.nursery import ROOT, Nursery, command_line
from tests.runs import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run with dropout, whose masks are the same on any number of ranks."""
    return prepare(tmp_path_factory.mktemp("run"), "token-classification") | {"precision": "fp32"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, nursery: Nursery, options: dict[str, Any]) -> Path:
    """The run in one process."""
    output = tmp_path_factory.mktemp("alone") / "run"
    finished([nursery.start(*command_line(options, output))])
    return output


def run(*command: object, more: dict[str, str] | None = None) -> str:
    """A command that must succeed. Returns: all that it said."""
    done = run_process(*command, more=more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_process(*command: object, more: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """A command, run to its end."""
    environment = (
        os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"} | (more or {})
    )
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def torchrun(*more: object) -> list[object]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, *more]


def test_torchrun_trains_as_one_process(tmp_path: Path, options: dict[str, Any], alone: Path) -> None:
    run(*torchrun("-m", "bertune"), *command_line(options, tmp_path / "run"))
    assert figures(tmp_path / "run") == pytest.approx(figures(alone), rel=1e-6)


@pytest.mark.parametrize("phase", ["training", "evaluation", "checkpoint"])
def test_torchrun_restarts_after_a_rank_is_killed(
    tmp_path: Path, options: dict[str, Any], alone: Path, phase: str
) -> None:
    """By SIGKILL, in the first attempt alone; the second goes on from the last checkpoint, without --resume."""
    command = command_line(options | {"checkpoint_every": 1}, tmp_path / "run")
    told = run(*torchrun("--max-restarts", 1, "-m", "tests.distributed.dying"), phase, *command)
    assert f"killed in {phase}" in told
    assert figures(tmp_path / "run") == pytest.approx(figures(alone), rel=1e-6)


def test_torchrun_of_which_one_rank_gets_sigterm(tmp_path: Path, options: dict[str, Any]) -> None:
    """While it waits for a rank that is busy for minutes; processes that end with an exchange open must not hang."""
    command = [*torchrun("-m", "tests.distributed.stopped"), *command_line(options, tmp_path / "run")]
    began = time.monotonic()
    done = run_process(*command)
    told = done.stdout + done.stderr
    assert done.returncode == 1, told  # torchrun's own
    assert re.findall(r"exitcode {2}: (-?\d+)", told) == ["143", "143"], told
    assert told.count("interrupted by SIGTERM") == 1, told
    assert time.monotonic() - began < 150  # of 200 that rank 0 would be busy


def test_the_example_of_ray_train(tmp_path: Path, options: dict[str, Any], alone: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    import yaml

    page = (ROOT / "docs/clusters.md").read_text("utf-8")
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "TorchTrainer" in block)
    (tmp_path / "run.yaml").write_text(
        yaml.safe_dump({name: str(value) if isinstance(value, Path) else value for name, value in options.items()})
    )
    changes = {
        '"run.yaml"': repr(str(tmp_path / "run.yaml")),
        '"/shared/out"': repr(str(tmp_path / "run")),
        "num_workers=4, use_gpu=True": "num_workers=2",
    }
    for old, new in changes.items():
        assert old in code
        code = code.replace(old, new)
    (tmp_path / "example.py").write_text("import ray\n\nray.init(num_cpus=3, include_dashboard=False)\n" + code)
    run(sys.executable, tmp_path / "example.py", more={"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"})
    assert figures(tmp_path / "run") == pytest.approx(figures(alone), rel=1e-6)
