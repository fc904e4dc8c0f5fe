"""Hostile encoders through every door: refused soon, in little memory, with nothing run and nothing written."""

import shutil
from pathlib import Path

import pytest

import bertune
from tests import tiny
from tests.hostile.child import Verdict, call, command
from tests.hostile.files import HOSTILE

ADDED = 400 << 20
"""Bytes of memory that a refusal may take: mostly modules that are loaded on the way."""


def check_refused(verdict: Verdict) -> None:
    """Status 2, one message, soon, in little memory."""
    assert verdict.status == 2, verdict.err[-3000:]
    assert "error: " in verdict.err
    assert "Traceback" not in verdict.err
    assert "panicked" not in verdict.err
    assert verdict.out == ""
    assert verdict.grown < ADDED
    assert len(verdict.err) < 20_000


def sizes(folder: Path) -> dict[str, int]:
    """Everything below a folder, with sizes."""
    return {str(path.relative_to(folder)): path.lstat().st_size for path in folder.rglob("*")}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_encoders(name: str, sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound / "encoder", tmp_path / "case" / "encoder")
    source = HOSTILE[name](tmp_path / "case" / "encoder")
    before = sizes(tmp_path / "case")
    train = ["--task", "text-classification", "--train", sound / "train.csv", "--output", tmp_path / "case" / "out"]
    doors = [
        command(["inspect", source], tmp_path / "child"),
        command(["convert", "--encoder", source, "--output", tmp_path / "case" / "out"], tmp_path / "child"),
        command(["train", "--encoder", source, *train, *tiny.FAST], tmp_path / "child"),
        call(lambda: bertune.open_encoder(source), tmp_path / "child"),
    ]
    for verdict in doors:
        check_refused(verdict)
    assert sizes(tmp_path / "case") == before
    assert [path.name for path in (tmp_path / "child").rglob("*")] == ["tmp"]
    assert not Path("/tmp/pwned").exists()
