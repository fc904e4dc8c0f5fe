"""Run tests as on a lesser machine: at every lower instruction-set level, and without a C compiler.

python -m tests.levels [--quick] [arguments for pytest]

Kernels are compiled for the level; PyTorch, oneDNN and MKL are held to it by their own variables. --quick takes one
lower level and a choice of tests: under a minute.
"""

import os
import subprocess
import sys
import tempfile

from bertune import processor

FULL = ["tests/encoder", "tests/training", "tests/test_processor.py"]
QUICK = [
    "tests/encoder/test_encoder.py",
    "tests/encoder/kernels/test_attention.py::test_sharp_probabilities_lose_little",
    "tests/encoder/kernels/test_passes.py::test_add_norm",
    "tests/training/loop",
]


def settings(quick: bool) -> dict[str, dict[str, str]]:
    """Environment variables of every run, by what it stands for."""
    supported = processor.supported_levels()
    lower = supported[supported.index(processor.level()) + 1 :]
    levels = [name for name in lower if name == "x86-64-v3"] if quick else lower
    runs = {f"at {name}": processor.held_to(name) for name in levels}
    # CC names a program that does not exist and the cache is empty: nothing can be compiled.
    return runs | {"without a C compiler": {"CC": "/no-compiler", "BERTUNE_CACHE": tempfile.mkdtemp()}}


def main() -> int:
    """See the module's docstring."""
    arguments = sys.argv[1:]
    quick = "--quick" in arguments
    others = [argument for argument in arguments if argument != "--quick"]
    failed = []
    for name, variables in settings(quick).items():
        print(f"== {name}: {' '.join(f'{key}={value}' for key, value in variables.items())}", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", *others, *(QUICK if quick else FULL)]
        if subprocess.run(command, env=os.environ | variables, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"Tests failed {' and '.join(failed)}.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
