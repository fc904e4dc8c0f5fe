"""What tests of single kernels share."""

import os
from collections.abc import Iterator

import pytest
import torch

from bertune import processor
from bertune.encoder.kernels import build, calls
from tests.encoder.kernels.emulated import EmulatedKernels, missing

EMULATED = "aarch64 (emulated)"
LEVELS = [level.name for level in processor.LEVELS.values() if level.machine in ("", processor.machine())]


@pytest.fixture(scope="session")
def emulated_kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedKernels]:
    """The kernels of aarch64 in an emulator; `make test-arm` asks for them."""
    if missing():
        pytest.fail(f"{' and '.join(missing())} not found: apt-get install gcc-aarch64-linux-gnu qemu-user")
    kernels = EmulatedKernels(tmp_path_factory.mktemp("aarch64"))
    yield kernels
    kernels.end()


@pytest.fixture(params=[EMULATED] if os.environ.get("BERTUNE_TEST_ARM") else LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernels compiled for each instruction-set level that this processor has, up to BERTUNE_ISA."""
    name = str(request.param)
    if name == EMULATED:
        monkeypatch.setattr(calls, "_call", request.getfixturevalue("emulated_kernels").call)
        yield name
        return
    supported = processor.supported_levels()
    if name not in supported[supported.index(processor.level()) :]:
        pytest.skip(f"{name} is more than this machine has, or than BERTUNE_ISA allows")
    monkeypatch.setenv("BERTUNE_ISA", name)
    build.library.cache_clear()
    if build.library(torch.float32) is None or build.library(torch.bfloat16) is None:
        pytest.skip("no C compiler here, so there are no kernels to test")
    yield name
    monkeypatch.undo()
    build.library.cache_clear()
