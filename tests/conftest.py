"""What several tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder of recorded outputs and real data, named by BERTUNE_SHARED; tests that need it skip without it."""
    folder = os.environ.get("BERTUNE_SHARED")
    if not folder:
        pytest.skip("set BERTUNE_SHARED to the folder of recorded outputs and real data to run this test")
    path = Path(folder).resolve()
    if not path.is_dir():
        pytest.fail(f"BERTUNE_SHARED is {folder!r}, which is not a folder")
    return path
