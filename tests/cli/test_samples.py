"""`bertune samples DIR`: the sample data without a clone of the repository."""

from importlib import resources
from pathlib import Path

import pytest

from tests.tiny import bertune, done, files, refused

Capture = pytest.CaptureFixture[str]
SOURCE = Path(str(resources.files("bertune.samples")))


def test_all_data_are_copied(tmp_path: Path, capsys: Capture) -> None:
    answer = done(capsys, "samples", tmp_path / "new" / "samples")
    copied = files(tmp_path / "new" / "samples")
    here = {name: content for name, content in files(SOURCE).items() if not name.endswith((".py", ".pyc"))}
    here.pop("__pycache__", None)
    assert copied == here
    assert "README.md" in copied
    assert "23 files" in answer.out
    assert f"--train {tmp_path / 'new/samples/intents/train.csv'}" in answer.out


def test_other_files_in_the_folder_stay(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "mine.csv").write_text("text,label\n", encoding="utf-8")
    done(capsys, "samples", tmp_path)
    done(capsys, "samples", tmp_path)
    assert (tmp_path / "mine.csv").read_text(encoding="utf-8") == "text,label\n"


@pytest.mark.parametrize(
    ("arguments", "message"), [((), "name one folder"), (("a", "b"), "name one folder"), (("--all",), "name one")]
)
def test_usage(arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: Capture) -> None:
    refused(capsys, tmp_path, ["samples", *arguments], message)


def test_places_that_do_not_serve(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    refused(capsys, tmp_path, ["samples", tmp_path / "file"], "is a file")
    refused(capsys, tmp_path, ["samples", tmp_path / "file" / "below"], "cannot be written")
    refused(capsys, tmp_path, ["samples", SOURCE], "own sample data")
    assert bertune(capsys, "samples", "--help").out.startswith("usage: bertune samples")
