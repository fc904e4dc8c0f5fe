"""Real processes: exit statuses, what goes where, how soon help answers, what an import costs."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import bertune
from bertune.cli.general import VERBS
from tests.tiny import FAST, opinions, write_encoder, write_rows

HEAVY = ("torch", "numpy", "tokenizers", "pyarrow", "sklearn", "rich", "yaml", "safetensors", "transformers")


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python process with these arguments."""
    command = [sys.executable, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def test_train_then_a_bad_word(tmp_path: Path) -> None:
    encoder = write_encoder(tmp_path / "encoder")
    write_rows(tmp_path / "train.csv", opinions(16))
    options = ["--task", "text-classification", "--encoder", encoder, "--train", "train.csv", *FAST]
    good = run("-m", "bertune", "train", *options, "--output", "model", "--json", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert good.stdout.count("\n") == 1
    assert json.loads(good.stdout)["steps"] == 4
    assert "train.csv: 14 rows" in good.stderr
    assert "Warning" not in good.stderr
    assert "\x1b[" not in good.stderr  # no colours, no moving bar where nobody looks

    bad = run("-m", "bertune", "train", *options, "--output", "model", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in bad.stderr


def test_a_defect_ends_with_status_one() -> None:
    code = (
        "import sys, bertune.cli.inspect as inspect, bertune.cli.main as main\n"
        "inspect.main = lambda _: 1 / 0\n"
        "sys.exit(main.main(['inspect']))"
    )
    ended = run("-c", code)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "ZeroDivisionError" in ended.stderr


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        helped = run("-m", "bertune", "--help")
        times.append(time.perf_counter() - start)
        assert helped.returncode == 0
        assert "train" in helped.stdout
    assert min(times) < 0.5
    code = (
        "import sys; from bertune.cli.main import main; "
        f"main(['--help']); print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)"
    )
    assert run("-c", code).stderr.split() == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], []])
def test_general_help_imports_what_it_prints(arguments: list[str]) -> None:
    """Each of these modules adds to the time of `--help`; `--help` of a command may have them."""
    code = (
        "import sys; before = set(sys.modules); from bertune.cli.main import main; "
        f"main({arguments!r}); print(*sorted(set(sys.modules) - before), file=sys.stderr)"
    )
    assert run("-c", code).stderr.split() == ["bertune", "bertune.cli", "bertune.cli.general", "bertune.cli.main"]


def imported(*arguments: object, of: Sequence[str] = HEAVY) -> tuple[int, str, set[str]]:
    """Exit status, output and those modules of `bertune ARGUMENTS` in a process of its own."""
    code = (
        "import sys, bertune.cli.main as m\n"
        f"try: status = m.main({[str(argument) for argument in arguments]!r})\n"
        "except SystemExit as end: status = end.code or 0\n"
        f"print('\\n@', status, *(name for name in {of!r} if name in sys.modules))"
    )
    ended = run("-c", code)
    output, _, told = ended.stdout.rpartition("\n@ ")
    status, *modules = told.split()
    return int(status), output + ended.stderr, set(modules)


def test_help_of_train_makes_no_options_of_tasks() -> None:
    """Unless a task is named: those of all tasks take a fifth of the time."""
    options = ("bertune.tasks.options",)
    assert imported("train", "--help", of=options)[2] == set()
    assert imported("train", "--task", "mrpc", "--help", of=options)[2] == set(options)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_command_imports_nothing_heavy(verb: str) -> None:
    status, told, modules = imported(verb, "--help")
    assert (status, modules) == (0, set())
    assert f"usage: bertune {verb}" in told


@pytest.mark.parametrize(
    ("task", "own"), [("token-classification", "--doc-stride"), ("xnli", "--language"), ("embedding", "--pooling")]
)
def test_help_shows_the_options_of_a_task(task: str, own: str) -> None:
    for verb in ("train", "check"):
        status, told, modules = imported(verb, "--task", task, "--help")
        assert (status, modules) == (0, set())
        assert own in told
        assert own not in imported(verb, "--help")[1]


def test_help_shows_the_options_of_a_users_task(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    code = (
        "from dataclasses import dataclass\nimport torch\nfrom bertune.options import option\n"
        "from bertune.tasks.text_classification import TextClassification\n"
        "@dataclass(frozen=True)\nclass Own:\n    colour: str = option('red', help='of the walls')\n"
        "class Walls(TextClassification):\n    Options = Own\n"
    )
    file.write_text(code, encoding="utf-8")
    status, told, _ = imported("train", "--task", f"{file}:Walls", "--help")
    assert status == 0
    assert "--colour" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--tusk", "mrpc"], "--task"),
        (["train", "--task", "mrcp"], "no such task"),
        (["train", "--task", "mrpc", "--train", "a.csv"], "needs --encoder"),
        (["train", "--task", "mrpc", "--long-text", "burn"], "must be one of"),
        (["pretrain", "--words", "none", "--train", "a", "--output", "b"], "must be one of"),
        (["check", "--task", "mrpc"], "needs --train"),
        (["vocab", "--size", "many"], "--size"),
        (["predict", "--model", "MODEL", "--input", "a.csv", "--langauge", "de"], "did you mean --language"),
        (["evaluate", "--model", "MODEL"], "needs --data"),
        (["compare", "a", "b", "--resample", "1"], "did you mean --resamples"),
        (["inspect", "a", "--jason"], "did you mean --json"),
        (["convert", "--encoder", "minilm"], "needs --output"),
    ],
    ids=lambda value: " ".join(value[:3]) if isinstance(value, list) else "",
)
def test_errors_of_usage_are_told_before_anything_heavy_is_imported(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    (tmp_path / "bertune.json").write_text('{"task": {"name": "xnli", "options": {}}}', encoding="utf-8")
    said = [str(tmp_path) if argument == "MODEL" else argument for argument in arguments]
    status, told, modules = imported(*said)
    assert message in told
    assert (status, modules) == (2, set())


def test_prediction_imports_only_what_it_needs(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.csv", opinions(16))
    given = {"encoder": write_encoder(tmp_path / "encoder"), "train": tmp_path / "train.csv"}
    bertune.train(task="text-classification", **given, output=tmp_path / "model", max_steps=1, max_seq_length=16)
    command = ["predict", "--model", tmp_path / "model", "--input", tmp_path / "train.csv", "--output", "-"]
    of_others = ("sklearn", "scipy", "pandas", "pyarrow", "yaml", "tensorboard", "transformers", "huggingface_hub")
    compiler = ("torch._dynamo", "torch._inductor", "sympy")
    status, told, modules = imported(*command, of=(*of_others, *compiler))
    assert (status, modules) == (0, set())
    assert told.count('"label"') == 16


def test_importing_the_package_costs_nothing() -> None:
    code = f"import sys, bertune; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    assert run("-c", code).stdout.split() == []


def test_the_names_that_the_package_promises() -> None:
    code = "import bertune; print(*(getattr(bertune, name).__name__ for name in bertune.__all__))"
    assert run("-c", code).stdout.split() == [
        *(
            "InputError",
            "Model",
            "adapt",
            "embed",
            "explain",
            "load",
            "open_encoder",
            "predict_frame",
            "pretrain",
            "train",
        ),
    ]


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_help_to_a_reader_who_has_enough(arguments: list[str]) -> None:
    """`bertune --help | head -1`: no traceback."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "bertune", *arguments], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert ended.stderr == b""
