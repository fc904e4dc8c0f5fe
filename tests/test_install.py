"""`pip install` of the repository, as from git or a clone: what the installed package holds and finds."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = int(importlib.metadata.version("setuptools").partition(".")[0])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bertune installed from a copy of the sources, without dependencies and without network."""
    if SETUPTOOLS < 77:
        pytest.skip(f"setuptools {SETUPTOOLS}: building needs 77 or newer")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src/bertune", source / "src/bertune", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(target), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return target


def test_sample_data_are_reachable_without_a_clone(installed: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-m", "bertune", "samples", "samples"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("intents/train.csv", "chinese-questions/dev.json", "README.md"):
        assert (tmp_path / "samples" / name).read_bytes() == (ROOT / "src/bertune/samples" / name).read_bytes()


def test_the_page_of_serve_and_the_kernels_sources_are_there(installed: Path) -> None:
    assert list((installed / "bertune/serving/page").glob("*.html"))
    assert list((installed / "bertune/encoder/kernels/c").glob("*.c"))
    assert (installed / "bertune/py.typed").is_file()


def test_spacy_finds_its_component_in_the_installed_package(installed: Path, tmp_path: Path) -> None:
    code = "import spacy; print(spacy.blank('en').add_pipe('bertune').__class__.__module__)"
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == ("bertune.spacy", 0), done.stderr
