"""Files are there whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from bertune.errors import FaultError, InputError
from bertune.files.atomic_write import SAVED, finish_publishing, publish, sync, unwritable, write_text
from tests.tiny import files


def test_what_was_there_stays_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_text(path, "old ü")
    before = files(tmp_path)

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert files(tmp_path) == before
    assert path.read_text(encoding="utf-8") == "old ü"


def test_network_disks_that_sync_no_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("")

    def refuses(handle: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuses)
    sync(tmp_path)
    with pytest.raises(OSError, match="Invalid"):
        sync(tmp_path / "a")


def _set(folder: Path, name: str, text: str) -> Path:
    beside = folder / name
    (beside / "inner").mkdir(parents=True)
    for file in ("a", "z", "inner/b"):
        (beside / file).write_text(text)
    return beside


def test_a_set_of_files_is_moved_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    replace = Path.replace

    def noted(self: Path, target: Path) -> Path:
        moved.append(self.name)
        return replace(self, target)

    publish(_set(tmp_path, "one", "old"), tmp_path, ("z", "a"))
    monkeypatch.setattr(Path, "replace", noted)
    publish(_set(tmp_path, "two", "new"), tmp_path, ("z", "a"))
    assert moved == ["b", "z", "a"]
    assert set(files(tmp_path)) == {"a", "z", "inner", "inner/b"}
    assert [(tmp_path / name).read_text() for name in ("a", "z", "inner/b")] == ["new"] * 3


def test_a_move_that_was_cut_off_is_finished(tmp_path: Path) -> None:
    publish(_set(tmp_path, "one", "old"), tmp_path, ("a",))
    _set(tmp_path, SAVED, "new")
    (tmp_path / SAVED / "z").replace(tmp_path / "z")
    finish_publishing(tmp_path, ("a",))
    assert [(tmp_path / name).read_text() for name in ("a", "z", "inner/b")] == ["new"] * 3
    before = files(tmp_path)
    finish_publishing(tmp_path, ("a",))
    assert files(tmp_path) == before
    assert SAVED not in before


@pytest.mark.parametrize(
    ("number", "kind"), [(errno.ENOSPC, FaultError), (errno.EIO, FaultError), (errno.EACCES, InputError)]
)
def test_a_disk_that_fails_is_no_bad_input(number: int, kind: type[Exception]) -> None:
    found = unwritable(OSError(number, "why"), "told")
    assert type(found) is kind
    assert str(found) == "told"
