"""Real small disks that run full, or are read-only, while a run writes to them."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.nursery import Nursery, command_line
from tests.runs import differences, last_checkpoint, prepare

pytestmark = pytest.mark.torture


@contextlib.contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A disk in memory, for whom mounting is allowed."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


FILLING = """
import shutil
from pathlib import Path
from bertune.tasks.text_classification import TextClassification

class Filling(TextClassification):
    def loss(self, logits, targets, layout):
        left = Path(__file__).with_name("left")
        if left.exists():
            free = shutil.disk_usage(left.parent).free
            left.with_name("filler").write_bytes(bytes(max(0, free - int(left.read_text()))))
            left.unlink()
        return super().loss(logits, targets, layout)
"""
"""A task that fills the disk in its first update, but for the bytes that the file `left` tells."""


def test_a_disk_that_runs_full_at_any_point(nursery: Nursery, tmp_path: Path) -> None:
    """With room again the run goes on and ends alike."""
    options = prepare(tmp_path, "text-classification")
    with disk(tmp_path / "disk", "size=24m") as small:
        (small / "filling.py").write_text(FILLING)
        options["task"] = f"{small / 'filling.py'}:Filling"
        assert nursery.start(*command_line(options, tmp_path / "whole")).wait() == 0
        one = (last_checkpoint(tmp_path / "whole") / "state.safetensors").stat().st_size
        model = (tmp_path / "whole" / "model.safetensors").stat().st_size
        full = []
        for left in (0, one // 2, one + model // 2, one + model + one // 2, 2 * one + model * 3 // 2, 3 * one):
            output = small / f"run-{left}"
            (small / "left").write_text(str(left))
            child = nursery.start(*command_line(options, output))
            status = child.wait()
            (small / "filler").unlink()
            if status:
                *_, last = child.told.splitlines()
                assert status == 1, child.told
                assert str(output) in last
                assert "No space left on device" in last
                full.append(last.partition(": cannot")[0].rpartition("/")[2])
                assert nursery.start(*command_line(options, output), "--resume").wait() == 0
            assert "Traceback" not in child.told
            assert differences(tmp_path / "whole", output) == []
            shutil.rmtree(output)
        assert set(full) == {"checkpoints", "model.safetensors"}


def test_a_disk_too_small_from_the_start(nursery: Nursery, tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification")
    with disk(tmp_path / "disk", "size=8m") as small:
        child = nursery.start(*command_line(options, small / "run"))
        assert child.wait() == 1
        *_, last = child.told.splitlines()
        assert last.startswith(f"error: --output {small / 'run'}: this run needs ")
        assert not list(small.iterdir())


def test_a_read_only_disk(nursery: Nursery, tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification")
    with disk(tmp_path / "disk", "size=64m") as small:
        first = nursery.start(*command_line(options | {"max_steps": 2}, small / "run"))
        assert first.wait() == 0
        before = sorted((small / "run").iterdir())
        subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
        for output, more in ((small / "run", ["--resume"]), (small / "new", [])):
            child = nursery.start(*command_line(options | {"max_steps": 2}, output), *more)
            assert child.wait() == 1, child.told
            *_, last = child.told.splitlines()
            assert last.startswith(f"error: {output}")
            assert "Read-only file system" in last
            assert "Traceback" not in child.told
        assert sorted((small / "run").iterdir()) == before


def test_a_disk_that_is_unmounted_under_a_run(nursery: Nursery, tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification") | {"max_steps": 100_000, "checkpoint_every": None}
    with disk(tmp_path / "disk", "size=64m") as small:
        child = nursery.start(*command_line(options, small / "run"))
        child.until("\nstep 6 ")
        subprocess.run(["umount", "-l", str(small)], check=True)
        assert child.wait() == 1
        *_, last = child.told.splitlines()
        assert str(small / "run") in last
        assert "No such file or directory" in last
        assert not list(small.iterdir())
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(small)], check=True)
