"""What callers from Python see: names of arguments, never flags, in every message that the library has."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bertune
from bertune.argument_names import SWITCHES, as_arguments, command_line, python_call
from bertune.errors import InputError
from bertune.prediction.options import BulkOptions
from bertune.pretraining.options import PretrainOptions
from bertune.tasks.registry import TASKS, options_of
from bertune.training.options import TrainOptions

SOURCE = Path(bertune.__file__).parent
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
STYLES = {"report/charts.py", "report/html.py", "report/page.py", "serving/page"}
"""Their `--ink` is CSS."""


def messages() -> Iterator[tuple[str, str]]:
    """Every text in the library's code that is no docstring, with its file; a variable part of it reads as 9."""
    for path in SOURCE.rglob("*.py"):
        file = path.relative_to(SOURCE).as_posix()
        if file.startswith(("cli/", "google/")) or file in STYLES:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                values = [str(one.value) if isinstance(one, ast.Constant) else "9" for one in node.values]
                yield file, "".join(values)
            elif (
                isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (parts | documents)
            ):
                yield file, node.value


def test_no_message_keeps_a_flag() -> None:
    found = list(messages())
    assert sum(bool(FLAG.search(text)) for _, text in found) > 200, "the walk finds no messages any more"
    commands = re.compile(r"(pip install|bertune [a-z]+|python -m) [^;)`\n]*")
    kept = [(file, text) for file, text in found if FLAG.search(commands.sub("", as_arguments(text)))]
    assert kept == []


def test_switches_are_those_of_the_options() -> None:
    trees = [TrainOptions, PretrainOptions, BulkOptions, *(options_of(task) for task in TASKS)]
    kinds = {field.name: str(field.type) for tree in trees for field in dataclasses.fields(tree)}
    wrong = [name for name in SWITCHES if "bool" not in kinds.get(name, "bool")]
    assert wrong == []
    named = {
        match.replace("-", "_") for _, text in messages() for match in re.findall(r"(?<![\w-])--([a-z][a-z-]+)", text)
    }
    assert [name for name in sorted(named) if "bool" in kinds.get(name, "") and name not in SWITCHES] == []


@pytest.mark.parametrize(
    ("told", "read"),
    [
        ("--learning-rate 0: must be above 0", "learning_rate 0: must be above 0"),
        ("leave such rows out with --drop-unlabelled", "leave such rows out with drop_unlabelled=True"),
        ("columns are numbered (--no-header)", "columns are numbered (header=False)"),
        ("--resume: is for a file", "resume: is for a file"),
        ("run: pip install --no-deps x; then --encoder x", "run: pip install --no-deps x; then encoder x"),
        ("bertune predict --model M --input FILE", "bertune predict --model M --input FILE"),
        ("a--b -- c", "a--b -- c"),
    ],
)
def test_forms(told: str, read: str) -> None:
    assert as_arguments(told) == read


def test_public_functions_name_arguments_and_commands_flags(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^encoder nosuch: no such file"):
        bertune.open_encoder("nosuch")
    with pytest.raises(InputError, match="batch_size 0") as caught:
        bertune.train(task="mrpc", encoder="nosuch", train="no", output=tmp_path / "out", batch_size=0)
    assert not FLAG.search(str(caught.value))

    @python_call
    def refuse() -> None:
        raise InputError("--epochs 0: too few")

    with command_line(), pytest.raises(InputError, match="--epochs 0"):
        refuse()
