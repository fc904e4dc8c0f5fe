"""A full disk, a read-only or vanished folder, no memory: a message, status 1, and the last checkpoint whole."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertune.errors import FaultError
from bertune.training.loop import loop, validation
from bertune.training.run_folder import checkpoints as checkpoint
from bertune.training.run_folder import disk_space as room
from bertune.training.run_folder.disk_space import check_disk_space, shown
from bertune.training.run_folder.errors import disk_errors, run_errors
from tests import tiny
from tests.nursery import Nursery, command_line
from tests.runs import UPDATES, differences, last_checkpoint, prepare, start


def test_a_full_disk(nursery: Nursery, tmp_path: Path) -> None:
    """The system's limit to a file's size stands for the disk: what is written fails in the same place."""
    options = prepare(tmp_path, "text-classification")
    assert nursery.start(*command_line(options, tmp_path / "whole")).wait() == 0
    size = (last_checkpoint(tmp_path / "whole") / "state.safetensors").stat().st_size
    child = nursery.start(*command_line(options, tmp_path / "run"), largest_file=size - 1000)
    assert child.wait() == 1
    assert "Traceback" not in child.told
    *_, last = child.told.splitlines()
    assert last.startswith(f"error: {tmp_path / 'run' / 'checkpoints'}: cannot be written: File too large")
    assert " kB are needed, " in last
    assert f"bertune train --config {tmp_path / 'run' / 'run.yaml'} --resume" in last
    assert not list((tmp_path / "run").rglob(".*"))
    assert nursery.start(*command_line(options, tmp_path / "run"), "--resume").wait() == 0
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def _stopped_by(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, act: Callable[[], None]) -> None:
    whole, calls = getattr(owner, name), [0]

    def counted(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            act()
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


def test_the_checkpoint_before_is_whole_after_a_full_disk(tmp_path: Path) -> None:
    options = prepare(tmp_path, "text-classification")
    start(tmp_path / "whole", options)

    def full() -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    with pytest.MonkeyPatch.context() as patch:
        _stopped_by(patch, checkpoint, "sync_tree", 3, full)
        with pytest.raises(FaultError, match=r"No space left on device \(\d+\.\d kB are needed, .* are free there\)"):
            start(tmp_path / "run", options)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000003"]
    start(tmp_path / "run", options | {"resume": True})
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.parametrize("vanish", [shutil.rmtree, lambda path: path.rename(path.with_name("elsewhere"))])
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_vanishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vanish: Callable[[Path], Any], again: bool
) -> None:
    """As when its disk is unmounted: it is not made anew, nor is what lies in its place filled."""
    output = tmp_path / "run"

    def act() -> None:
        vanish(output)
        if again:
            output.mkdir()

    _stopped_by(monkeypatch, loop, "update", 3, act)
    with pytest.raises(FaultError, match="No such file or directory") as error:
        start(output, prepare(tmp_path, "text-classification"))
    assert str(output) in str(error.value)
    assert not output.exists() or not list(output.iterdir())


def test_another_folder_in_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "run"

    def act() -> None:
        output.rename(tmp_path / "elsewhere")
        (output / "checkpoints").mkdir(parents=True)

    _stopped_by(monkeypatch, loop, "update", 3, act)
    with pytest.raises(FaultError, match="is another folder now than the one that the run began in"):
        start(output, prepare(tmp_path, "text-classification"))
    assert set(tiny.files(output)) == {"checkpoints"}


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    before = tiny.files(tmp_path)
    options = prepare(tmp_path / "data", "text-classification")
    (tmp_path / "file").write_text("")
    with pytest.raises(FaultError, match=r"file/run: cannot be written: Not a directory"):
        start(tmp_path / "file" / "run", options)
    assert {name for name in tiny.files(tmp_path) if not name.startswith("data")} == before.keys() | {"file"}


def test_curves_are_no_reason_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _stopped_by(monkeypatch, loop, "update", 1, (tmp_path / "run" / "logs").rmdir)
    assert start(tmp_path / "run", prepare(tmp_path, "text-classification")) == UPDATES
    assert caplog.text.count("curves are no longer written (No such file or directory); the run continues") == 1


MEMORY: list[Callable[[], Any]] = [lambda: torch.empty(2**55), lambda: np.empty(2**55), lambda: [0] * 2**50]


@pytest.mark.parametrize("ask", MEMORY)
def test_no_memory_in_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]) -> None:
    """The errors are the allocators' own. Within an update the batch is split first (`training.update`)."""
    options = prepare(tmp_path, "text-classification")
    start(tmp_path / "whole", options)
    with monkeypatch.context() as patch:
        _stopped_by(patch, validation, "check", 1, ask)
        with pytest.raises(FaultError, match=r"no memory left: .* batch_size.*continue with: bertune train") as error:
            start(tmp_path / "run", options)
    assert "\n" not in str(error.value)
    start(tmp_path / "run", options | {"resume": True})
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a defect"), run_errors(tmp_path, "train"):
        raise RuntimeError("a defect")
    with pytest.raises(KeyError), disk_errors(tmp_path, 0):
        raise KeyError


def test_room_is_checked_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = prepare(tmp_path, "text-classification")
    monkeypatch.setattr(room, "free_at", lambda _: 10_000_000)
    with pytest.raises(FaultError, match=r"run needs \d\d\.\d MB on its disk, and 10\.0 MB are free: 2 checkpoints of"):
        start(tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


def test_how_much_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    besides = 16 << 20
    for keep, needed in ((1, 2 * 300 + 2 * 100), (2, 2 * 300 + 2 * 100), (5, 5 * 300 + 2 * 100)):
        monkeypatch.setattr(room, "free_at", lambda _, needed=needed: needed + besides)
        check_disk_space(tmp_path, 300, 100, keep)
        monkeypatch.setattr(room, "free_at", lambda _, needed=needed: needed + besides - 1)
        with pytest.raises(FaultError, match=f"--keep-checkpoints {keep}"):
            check_disk_space(tmp_path, 300, 100, keep)
    (tmp_path / "checkpoints" / "step-00000001").mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-00000001" / "state.safetensors").write_bytes(b"1" * 300)
    check_disk_space(tmp_path, 300, 100, 5)  # what lies there is in the new run's room


UNREACHABLE = "n" * 300
"""No name that a disk can have: asking for it is an error of the system, as on a network disk that is gone."""


def test_a_disk_that_cannot_be_asked(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File name too long"):
        (tmp_path / UNREACHABLE).stat()
    assert room.free_at(tmp_path / UNREACHABLE) == room.free_at(tmp_path)
    with (
        pytest.raises(FaultError, match=r"File name too long \(.* are free there\)$"),
        run_errors(tmp_path / UNREACHABLE, "train"),
        disk_errors(tmp_path / UNREACHABLE / "x", 0),
    ):
        (tmp_path / UNREACHABLE).mkdir()


def test_no_sizes_are_made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bertune.training.run_folder.errors.free_at", lambda _: None)
    with (
        pytest.raises(FaultError, match=r"x: cannot be written: No space left on device$"),
        disk_errors(tmp_path / "x", 0),
    ):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("checkpoint", ["", "checkpoints/step-00000003", "seed-2/checkpoints/step-00000003.1"])
def test_a_checkpoint_is_promised_only_where_there_is_one(tmp_path: Path, checkpoint: str) -> None:
    (tmp_path / checkpoint).mkdir(parents=True, exist_ok=True)
    (tmp_path / "run.yaml").write_text("task: x\n")
    with pytest.raises(FaultError) as error, run_errors(tmp_path, "train"):
        raise FaultError("no memory for a single sequence")
    kept = "The last checkpoint is kept; once" if checkpoint else "Once"
    expected = f"no memory for a single sequence. {kept} that is mended, continue with: bertune train --config "
    assert str(error.value) == f"{expected}{tmp_path / 'run.yaml'} --resume"


def test_room_for_all_seeds_is_checked_before_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    besides = 16 << 20
    needed = 2 * 300 + 2 * 100 + besides + 3 * (300 + 100 + besides)
    monkeypatch.setattr(room, "free_at", lambda _: needed)
    check_disk_space(tmp_path, 300, 100, 1, further=3)
    monkeypatch.setattr(room, "free_at", lambda _: needed - 1)
    with pytest.raises(FaultError, match="runs to follow: 3, each leaving 1 checkpoints"):
        check_disk_space(tmp_path, 300, 100, 1, further=3)
    options = prepare(tmp_path / "data", "text-classification")
    monkeypatch.setattr(room, "free_at", lambda _: 50_000_000)  # enough for two of them
    with pytest.raises(FaultError, match="runs to follow: 2"):
        start(tmp_path / "run", options | {"seeds": "1,2,3"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1320000000, "1.3 GB"), (5e15, "5000.0 TB")]
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert shown(size) == text
