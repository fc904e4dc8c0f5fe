"""Hostile model folders: nothing in them is run, and what does not fit is refused soon."""

import json
import shutil
from pathlib import Path

import pytest

import bertune
from tests import tiny
from tests.hostile.child import call, command
from tests.hostile.files import DEEP
from tests.hostile.test_hostile_encoders import check_refused

EVIL = """
from pathlib import Path
Path(__file__).with_name("pwned").write_text("evil")
"""


def spoilt(sound: Path, folder: Path, **record: object) -> Path:
    """A copy of the sound model whose bertune.json says something else."""
    shutil.copytree(sound / "model", folder)
    tree = json.loads((folder / "bertune.json").read_text())
    (folder / "bertune.json").write_text(json.dumps(tree | record))
    return folder


RECORDS: dict[str, dict[str, object]] = {
    "a task file": {"task": {"name": "task.py:Evil", "options": {}}},
    "a task file elsewhere": {"task": {"name": "../model/task.py:Evil", "options": {}}},
    "a task file with its hash": {"task": {"name": "task.py:Evil", "options": {}, "sha256": "0" * 64}},
    "a module": {"task": {"name": "os:system", "options": {}}},
    "a task that is none": {"task": {"name": "evil", "options": {}}},
    "a task of another kind": {"task": [1]},
    "options of another kind": {"task": {"name": "text-classification", "options": [1], "labels": ["a", "b"]}},
    "options that there are not": {
        "task": {"name": "text-classification", "options": {"evil": 1}, "labels": ["a", "b"]}
    },
    "labels of another kind": {"task": {"name": "text-classification", "options": {}, "labels": 5}},
    "labels of another number": {"task": {"name": "text-classification", "options": {}, "labels": ["a"] * 100_000}},
    "a length of another kind": {"max_seq_length": "x"},
    "a length beyond all": {"max_seq_length": 10**30},
    "a negative length": {"max_seq_length": -1},
}


@pytest.mark.parametrize("name", RECORDS)
def test_hostile_records(name: str, sound: Path, tmp_path: Path) -> None:
    model = spoilt(sound, tmp_path / "model", **RECORDS[name])
    (model / "task.py").write_text(EVIL)
    before = tiny.files(tmp_path)
    data, answers = sound / "train.csv", tmp_path / "answers.jsonl"
    doors = [
        command(["evaluate", "--model", model, "--data", data], tmp_path.with_name(f"{tmp_path.name}-child")),
        command(["predict", "--model", model, "--input", data, "--output", answers], tmp_path.with_name("child")),
        call(lambda: bertune.load(model), tmp_path.with_name("child")),
    ]
    for verdict in doors:
        check_refused(verdict)
    assert tiny.files(tmp_path) == before


@pytest.mark.parametrize("text", [DEEP, '{"max_seq_length": 1' + "0" * 5000 + "}", "", "[]", "\0"])
def test_records_that_are_no_records(text: str, sound: Path, tmp_path: Path) -> None:
    model = spoilt(sound, tmp_path / "model")
    (model / "bertune.json").write_text(text)
    check_refused(command(["evaluate", "--model", model, "--data", sound / "train.csv"], tmp_path / "child"))
    check_refused(command(["inspect", model], tmp_path / "child"))


def test_code_beside_a_model_is_not_run(sound: Path, tmp_path: Path) -> None:
    """Settings that name a class of the folder's own, templates, modules by customary names: all is let lie."""
    model = spoilt(sound, tmp_path / "model")
    evil = {"auto_map": {"AutoModel": "modeling_evil.Evil", "AutoTokenizer": ["modeling_evil.Evil", None]}}
    template = "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}"
    for name, more in (("config.json", evil), ("tokenizer_config.json", evil | {"chat_template": template})):
        tree = json.loads((model / name).read_text())
        (model / name).write_text(json.dumps(tree | more))
    for name in ("modeling_evil.py", "conftest.py", "sitecustomize.py", "bertune.py", "task.py", "handler.py"):
        (model / name).write_text(EVIL)
    data, answers = sound / "train.csv", tmp_path / "answers.jsonl"
    for arguments in (
        ["inspect", model],
        ["evaluate", "--model", model, "--data", data],
        ["predict", "--model", model, "--input", data, "--output", answers],
        ["convert", "--encoder", model, "--output", tmp_path / "converted"],
    ):
        verdict = command(arguments, tmp_path / "child")
        assert verdict.status == 0, verdict.err
    assert not list(tmp_path.rglob("pwned"))
    assert not list((tmp_path / "converted").rglob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        assert "evil" not in (tmp_path / "converted" / name).read_text()
        assert "subclasses" not in (tmp_path / "converted" / name).read_text()
