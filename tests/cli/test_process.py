"""Real processes: exit statuses, what goes where, how soon help answers, what an import costs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

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
    assert "train.csv: 16 rows" in good.stderr
    assert "Warning" not in good.stderr
    assert "\x1b[" not in good.stderr  # no colours, no moving bar where nobody looks

    bad = run("-m", "bertune", "train", *options, "--output", "model", cwd=tmp_path)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: ")
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


def test_help_of_a_command_does_not_wait_for_torch() -> None:
    for verb in ("evaluate", "predict", "inspect", "convert"):
        code = (
            "import sys, bertune.cli.main as m\n"
            f"try: m.main([{verb!r}, '--help'])\n"
            "except SystemExit: print('torch' in sys.modules, file=sys.stderr)"
        )
        assert run("-c", code).stderr.split() == ["False"], verb


def test_importing_the_package_costs_nothing() -> None:
    code = f"import sys, bertune; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    assert run("-c", code).stdout.split() == []


def test_the_names_that_the_package_promises() -> None:
    code = "import bertune; print(*(getattr(bertune, name).__name__ for name in bertune.__all__))"
    assert run("-c", code).stdout.split() == [
        *("InputError", "Model", "embed", "load", "open_encoder", "pretrain", "train"),
    ]
