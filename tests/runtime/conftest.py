"""The runtime as its wheel installs it, made once."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _backend() -> Any:
    spec = importlib.util.spec_from_file_location("build_backend", ROOT / "runtime" / "build_backend.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the wheel holds: the runtime and the modules of bertune that its build chooses."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "runtime" / "src" / "bertune_runtime", folder / "bertune_runtime")
    for path in _backend().needed_files():
        target = folder / "bertune_runtime" / "_modules" / path.relative_to(ROOT / "src")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return folder
