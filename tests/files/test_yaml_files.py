"""Files of options: plain trees, written and read."""

from pathlib import Path

import pytest

from bertune.errors import InputError
from bertune.files.yaml_files import read_yaml, write_yaml


def test_trees_come_back(tmp_path: Path) -> None:
    names = ["good", "bad", "好"]
    tree = {"a": 1e-4, "b": True, "c": None, "labels": names, "again": names, "d": {"e": "1"}}
    write_yaml(tmp_path / "a.yaml", tree)
    assert read_yaml(tmp_path / "a.yaml") == tree
    assert "&" not in (tmp_path / "a.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: &a 1\nb: *a\n", r"references \(\*name\) are not read"),
        ("a: !!python/name:os.system\n", "could not determine a constructor"),
        ("a: !!int ''\n", "not a YAML file"),
        ("- 1\n", "must hold option names and values"),
        ("1: 2\n", "must hold option names and values"),
    ],
)
def test_what_is_no_plain_tree_is_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_yaml(tmp_path / "a.yaml")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_yaml(tmp_path / "a.yaml")
