"""What tests of single kernels share."""

from collections.abc import Iterator

import pytest
import torch

from bertune import processor
from bertune.encoder.kernels import build

LEVELS = [level.name for level in processor.LEVELS.values() if level.machine in ("", processor.machine())]


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The kernels compiled for each instruction-set level that this processor has, up to BERTUNE_ISA."""
    supported = processor.supported_levels()
    name = str(request.param)
    if name not in supported[supported.index(processor.level()) :]:
        pytest.skip(f"{name} is more than this machine has, or than BERTUNE_ISA allows")
    monkeypatch.setenv("BERTUNE_ISA", name)
    build.library.cache_clear()
    if build.library(torch.float32) is None or build.library(torch.bfloat16) is None:
        pytest.skip("no C compiler here, so there are no kernels to test")
    yield name
    monkeypatch.undo()
    build.library.cache_clear()
