"""What several tests share."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.nursery import Nursery

# Worker processes that each measured the fastest float32 route on a busy machine could choose differently.
os.environ.setdefault("BERTUNE_FLOAT32", "default")
# A shell starts what runs in its background with SIGINT ignored, and that is inherited; Ctrl-C is tested there too.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Nursery"]:
    """Starts real `bertune` processes quickly."""
    from tests.nursery import nursery_in

    with nursery_in(tmp_path_factory.mktemp("nursery")) as started:
        yield started


@pytest.fixture(scope="module")
def one_ray() -> Iterator[None]:
    """One local Ray of two cores for all tests of a file, as to start it takes seconds."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    root = Path(__file__).parents[1]
    paths = os.pathsep.join([str(root / "src"), str(root)])
    environment = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()
