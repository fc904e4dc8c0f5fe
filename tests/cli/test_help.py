"""Help in groups, names that are near, completion."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bertune.cli.completion import SCRIPTS
from tests.tiny import bertune, refused

Capture = pytest.CaptureFixture[str]


def test_help_of_a_command_is_grouped_required_first(capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        bertune(capsys, "help", "train")
    told = capsys.readouterr().out
    order = [told.index(f"\n{heading}:") for heading in ("required", "data", "model", "optimisation", "run", "output")]
    assert order == sorted(order)
    assert told.index("--encoder TEXT", order[0]) < order[1]
    assert "token-" in told.partition("required:")[0]


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
    assert "mean" not in refused(capsys, tmp_path, ["xyzzy"], "no command 'xyzzy'; known: train")


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
