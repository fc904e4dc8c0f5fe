"""Files, folders and patterns that an option for data names, and the hashes of what lies behind them."""

from pathlib import Path

import pytest

from bertune.data.contents import content_sha256, files_behind, state_of
from bertune.data.rows import file_sha256
from bertune.data.sources import data_paths
from bertune.errors import InputError


def write(folder: Path, *names: str, text: str = "text,label\na,b\n") -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return [folder / name for name in names]


def test_files_patterns_and_folders_in_their_order(tmp_path: Path) -> None:
    b, a, c, gz = write(tmp_path, "b.csv", "a.csv", "more/c.jsonl", "more/d.tsv.gz")
    write(tmp_path, "more/README.md", "more/.hidden.csv", "more/_SUCCESS")
    assert data_paths(str(b), "--train") == [b]
    assert data_paths([str(b), str(tmp_path / "?.csv")], "--train") == [b, a]
    assert data_paths([str(tmp_path / "more"), str(a)], "--train") == [c, gz, a]


def test_a_folder_in_a_form_of_its_own_is_one_source(tmp_path: Path) -> None:
    write(tmp_path, "classes/pos/1.txt", "classes/neg/1.txt", "brat/a.txt", "brat/a.ann", text="word")
    for name in ("classes", "brat"):
        assert data_paths(str(tmp_path / name), "--train") == [tmp_path / name]


def test_a_file_named_twice_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (a,) = write(tmp_path, "a.csv")
    assert data_paths([str(a), f"{tmp_path}/./*.csv"], "--train") == [a]
    assert "named twice" in caplog.text


def test_what_is_refused_names_every_problem(tmp_path: Path) -> None:
    write(tmp_path, "splits/train.csv", "splits/dev.csv", "none/readme.md")
    with pytest.raises(InputError) as error:
        data_paths([str(tmp_path / name) for name in ("splits", "none", "*.tsv")], "--validation")
    told = str(error.value)
    assert "--validation" in told
    assert "several purposes (dev.csv, train.csv)" in told
    assert "a folder without files of rows" in told
    assert "*.tsv: no file matches this pattern" in told


def test_what_is_missing_is_named_with_its_option(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^--train .*absent\.csv: no such file$"):
        data_paths([str(tmp_path / "absent.csv")], "--train")
    assert data_paths("a\0b", "--train") == [Path("a\0b")]


def test_a_hash_covers_side_files_and_folders(tmp_path: Path) -> None:
    rows, labels, text, notes = write(tmp_path, "train.jsonl", "train-labels.lst", "a.txt", "a.ann")
    (plain,) = write(tmp_path, "plain.csv")
    assert content_sha256(plain) == file_sha256(plain)
    assert files_behind(rows) == [rows, labels]
    assert files_behind(notes) == [notes, text]
    for changed, of in ((labels, rows), (notes, text), (text, notes), (text, tmp_path)):
        before, state = content_sha256(of), state_of(of)
        changed.write_text(changed.read_text() + "more\n")
        assert content_sha256(of) != before
        assert state_of(of) != state
    before = content_sha256(tmp_path)
    plain.rename(tmp_path / "renamed.csv")
    assert content_sha256(tmp_path) != before
