"""The kernels are compiled once for the files they are made of, and packaged with them."""

import fnmatch
import shutil
from pathlib import Path

import pytest
import torch

from bertune import processor
from bertune.encoder.kernels import build

ROOT = Path(__file__).parents[3]


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the C files, and an empty cache."""
    copy = tmp_path / "c"
    shutil.copytree(build.SOURCES, copy)
    monkeypatch.setattr(build, "SOURCES", copy)
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path / "cache"))
    build.library.cache_clear()
    if build.library(torch.float32) is None:
        pytest.skip("no C compiler here, so there are no kernels to test")
    return copy


def test_a_change_of_any_file_compiles_anew(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "bertune")
    compiled = build._compiled(torch.float32, processor.level())
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)
    assert build._compiled(torch.float32, processor.level()) == compiled
    assert not caplog.text  # it was compiled by the fixture
    seen = {compiled}
    files = [path for path in sources.iterdir() if path.is_file()]
    assert len(files) > 5
    for file in files:
        file.write_text(file.read_text(encoding="utf-8") + "/* changed */\n", encoding="utf-8")
        seen.add(build._compiled(torch.float32, processor.level()))
    assert len(seen) == len(files) + 1
    assert caplog.text.count("compiling the CPU kernels, once on this machine") == len(files)


def test_every_file_is_included_and_packaged() -> None:
    included = "".join(path.read_text(encoding="utf-8") for path in build.SOURCES.iterdir())
    packaged = [line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("bertune = [")]
    patterns = [part for part in packaged[0].split('"') if part.startswith("**/")]
    for file in build.SOURCES.iterdir():
        assert file.name == "kernels.c" or f'#include "{file.name}"' in included
        assert any(fnmatch.fnmatch(f"encoder/kernels/c/{file.name}", pattern) for pattern in patterns)
