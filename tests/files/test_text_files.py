"""Text files as streams, and files of settings as a whole."""

import gzip
import random
from pathlib import Path

import pytest

from bertune.errors import InputError, Problems
from bertune.files.text_files import LARGEST_SETTINGS, lines, open_bytes, small_file


def test_what_unpacks_as_no_text_does_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"a\n" * (8 << 20), 9) * 64)
    read = lines(tmp_path / "a.gz", True, Problems())
    seen = [0]
    with pytest.raises(InputError, match="over 100 times as much"):
        seen.extend(number for number, _ in read)
    assert seen[-1] < 4 << 20


def test_text_that_packs_well_is_read(tmp_path: Path) -> None:
    chance = random.Random(1)
    words = [f"word{i}" for i in range(50)]
    text = "".join(" ".join(chance.choices(words, k=3)) + "\n" for _ in range(300_000)).encode()
    (tmp_path / "a.gz").write_bytes(gzip.compress(text))
    with open_bytes(tmp_path / "a.gz", True) as file:
        assert file.read() == text
    assert sum(1 for _ in lines(tmp_path / "a.gz", True, Problems())) == 300_000


def test_settings_of_any_size_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"{}")
    assert small_file(tmp_path / "a.json") == b"{}"
    with (tmp_path / "a.json").open("r+b") as file:
        file.truncate(LARGEST_SETTINGS + 1)
    with pytest.raises(InputError, match="no vocabulary or file of settings"):
        small_file(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\rb\rc\r", ["a", "b", "c"]),  # as old programs of the Macintosh end lines
        ("a\rb", ["a", "b"]),
        ("a\r\nb\r\n", ["a", "b"]),
        ("a\rx\nb\n", ["a\rx", "b"]),  # among LFs it is a character
        ("a\r\r\rb", ["a", "", "", "b"]),
        ("a\n", ["a"]),
        ("é\u2028b\r", ["é\u2028b"]),
    ],
)
def test_line_ends(tmp_path: Path, encoding: str, text: str, expected: list[str]) -> None:
    text = text.replace("\u2028", "") if encoding == "cp1252" else text
    expected = [line.replace("\u2028", "") for line in expected] if encoding == "cp1252" else expected
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    problems = Problems()
    assert list(lines(tmp_path / "a.txt", False, problems, encoding)) == list(enumerate(expected, 1))
    assert not problems
