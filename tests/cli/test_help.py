"""Help in groups, names that are near, completion."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bertune.cli.completion import SCRIPTS
from bertune.cli.general import VERBS
from bertune.cli.main import main
from tests.tiny import bertune, refused

Capture = pytest.CaptureFixture[str]


def test_help_of_a_command_is_grouped_required_first(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        bertune(capsys, "help", "train")
    told = capsys.readouterr().out
    headings = ("required", "data", "model", "optimisation", "run", "output", "general")
    order = [told.index(f"\n{heading}:") for heading in headings]
    assert order == sorted(order)
    assert told.index("--encoder SOURCE", order[0]) < order[1]
    assert "token-classification" in told.partition("required:")[0]


@pytest.mark.parametrize("verb", [None, *VERBS])
def test_help_fits_80_columns_and_keeps_names_whole(
    verb: str | None, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        main(["help", verb] if verb else ["--help"])
    lines = capsys.readouterr().out.splitlines()
    # A choice of many values stands in one line with its option, which cannot be divided.
    assert [line for line in lines if len(line) > 80 and "{" not in line] == []
    assert [line for line in lines if line.endswith("-")] == []
    assert not verb or lines[0].startswith(f"usage: bertune {verb}")


def test_every_option_has_a_heading_of_its_command(capsys: Capture) -> None:
    """Under "task" there are options of a task alone, which no command lists before a task is named."""
    for verb in VERBS:
        with contextlib.suppress(SystemExit):
            main([verb, "--help"])
        assert "\ntask:" not in capsys.readouterr().out, verb


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("--epochs x", "--epochs x: expected a number"),
        ("--max-steps 1.5", "--max-steps 1.5: expected a whole number"),
        ("--batch-size many", "--batch-size many: expected a number (or auto)"),
        ("--epochs", "--epochs: a value is missing"),
        ("--report=maybe", "--report=maybe: takes no value; write --report or --no-report"),
        ("--train nofile.csv --task rte --encoder x --output o", "--train nofile.csv: no such file"),
    ],
)
def test_values_that_are_none(tmp_path: Path, capsys: Capture, given: str, told: str) -> None:
    refused(capsys, tmp_path, ["train", *given.split()], told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["trian"], "no command 'trian'; did you mean train?"),
        (["train", "--task", "text-clasification"], "did you mean text-classification?"),
        (["train", "--task", "Question_Answering"], "did you mean question-answering?"),
        (["pretrain", "--lr", "1e-4"], "no option --lr; did you mean --learning-rate?"),
        (["pretrain", "--num_train_epochs", "3"], "no option --num-train-epochs; did you mean --epochs?"),
        (["embed", "--sep", ";"], "no option --sep; did you mean --delimiter?"),
        (["completion", "tcsh"], "name one shell: bash, zsh, fish"),
    ],
)
def test_near_names(tmp_path: Path, capsys: Capture, arguments: list[str], told: str) -> None:
    refused(capsys, tmp_path, arguments, told)


def test_names_that_are_far_are_not_suggested(tmp_path: Path, capsys: Capture) -> None:
    assert "mean" not in refused(capsys, tmp_path, ["xyzzy"], "no command 'xyzzy'; known: samples")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_completion_scripts_are_valid(shell: str, capsys: Capture) -> None:
    script = bertune(capsys, "completion", shell).out
    assert "train" in script
    if (program := shutil.which(shell)) is not None:
        assert subprocess.run([program, "-n"], input=script, text=True, check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [("tr", "train"), ("help pre", "predict pretrain"), ("train --task ss", "sst2"), ("convert --format go", "google")],
)
def test_completions_of_bash(words: str, found: str, capsys: Capture) -> None:
    script = bertune(capsys, "completion", "bash").out
    typed = ["bertune", *words.split()]
    program = f'bertune() {{ {sys.executable} -m bertune "$@"; }}\n{script}'
    program += f"COMP_WORDS=({' '.join(typed)}); COMP_CWORD={len(typed) - 1}; _bertune; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert sorted(done.stdout.split()) == found.split()
