"""JSON that means harm gives ValueError, or InputError with the file's name."""

from pathlib import Path

import pytest

from bertune.errors import InputError
from bertune.files.json_files import parse_json, read_json


@pytest.mark.parametrize("text", ["[" * 100_000, "1" + "0" * 5000, "{", b"\xff", ""])
def test_what_cannot_be_parsed_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"nested|4300 digits\)|Expecting|decode") as error:
        parse_json(text)
    assert "sys." not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": 1' + "0" * 5000 + "}", "{", "[]", "\ufeff1"])
def test_the_file_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_a_byte_order_mark_is_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"a": 1}', encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"a": 1}
