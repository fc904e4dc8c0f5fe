"""The wheel that `make wheel` builds: what it carries, what it needs, and its kernels in use without a compiler."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from bertune import processor
from tools.wheel import LEVELS, compiler, needs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(compiler(processor.machine()) is None, reason="no gcc here to build a wheel's kernels with"),
]
CARRIED = [level for level in LEVELS if compiler(processor.LEVELS[level].machine)]
TYPES = ("float32", "bfloat16")

USE_KERNELS = """
import shutil, sys, torch
from bertune.encoder.kernels import build, calls
assert not any(map(shutil.which, ("cc", "gcc", "clang"))), "a compiler is on the PATH"
torch.manual_seed(1)
for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
    x, residual = torch.randn(70, 96).to(dtype), torch.randn(70, 96).to(dtype)
    bias, weight, shift = torch.randn(3, 96)
    found, _ = calls.add_norm(x, bias, residual, (weight, shift, 1e-12))
    right = torch.nn.functional.layer_norm(residual.float() + x.float() + bias, (96,), weight, shift, 1e-12)
    torch.testing.assert_close(found.float(), right, atol=tolerance, rtol=tolerance)
    print(build.library(dtype)._name)
"""


def without_this_checkout() -> dict[str, str]:
    """The environment's variables, but for those that would bring in the sources or another choice of kernels."""
    names = ("PYTHONPATH", "CC", "BERTUNE_KERNELS", "BERTUNE_ISA")
    return {name: value for name, value in os.environ.items() if name not in names}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution."""
    output = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "tools.wheel", "--output", str(output)], check=True)
    (wheel,), (source,) = output.glob("*.whl"), output.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def environment(distributions: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel in it, and this one's packages in reach but for bertune."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin/python"), "install", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--quiet", str(distributions[0])], check=True, env=without_this_checkout())
    (site,) = folder.glob("lib/python*/site-packages")
    # A line of a .pth file comes after what is installed here, and .pth files found there are not read.
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def run(environment: Path, tmp_path: Path, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment, with nothing else on the PATH and an empty cache of kernels."""
    clean = without_this_checkout() | {"PATH": str(environment / "bin"), "BERTUNE_CACHE": str(tmp_path / "cache")}
    return subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        cwd=tmp_path,
        env=clean | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_carries_kernels_sources_and_samples(distributions: tuple[Path, Path]) -> None:
    wheel, source = distributions
    names = zipfile.ZipFile(wheel).namelist()
    kernels = {name.rpartition("/")[2] for name in names if name.endswith(".so")}
    assert kernels == {f"{level}-{dtype}.so" for level in CARRIED for dtype in TYPES}
    with tarfile.open(source) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    root = Path(__file__).resolve().parents[1] / "src"
    wanted = [*root.glob("bertune/encoder/kernels/c/*"), *root.glob("bertune/samples/**/*"), root / "bertune/py.typed"]
    files = [str(path.relative_to(root)) for path in wanted if path.is_file()]
    assert len(files) > 15
    for file in files:
        assert file in names, "missing in the wheel"
        assert f"src/{file}" in packed, "missing in the source distribution"


def test_its_tag_names_the_architectures_and_the_oldest_glibc_that_serves(
    distributions: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel, _ = distributions
    tags = {
        machine: (int(a), int(b)) for a, b, machine in re.findall(r"manylinux_(\d+)_(\d+)_(x86_64|aarch64)", wheel.name)
    }
    assert set(tags) == {processor.LEVELS[level].machine for level in CARRIED}
    with zipfile.ZipFile(wheel) as archive:
        assert "Root-Is-Purelib: false" in archive.read("bertune-0.1.0.dist-info/WHEEL").decode()
        for name in archive.namelist():
            if name.endswith(".so"):
                library = Path(archive.extract(name, tmp_path))
                found = needs(library)
                assert found.glibc <= tags["aarch64" if "aarch64" in name else "x86_64"]
                assert found.libraries <= {"libm.so.6", "libc.so.6"}, "libgomp is PyTorch's to bring"
                assert any(function.startswith("GOMP_parallel") for function in found.others)


@pytest.mark.parametrize("level", [level for level in processor.supported_levels() if level != "generic"])
def test_kernels_work_without_a_compiler(environment: Path, tmp_path: Path, level: str) -> None:
    done = run(environment, tmp_path, "python", "-c", USE_KERNELS, BERTUNE_ISA=level)
    assert done.returncode == 0, done.stderr
    used = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in used] == [f"{level}-{dtype}.so" for dtype in TYPES]
    assert all(path.is_relative_to(environment) for path in used)
    assert not (tmp_path / "cache").exists(), "nothing was compiled"


def test_a_level_that_the_wheel_lacks_goes_on_with_pytorch(environment: Path, tmp_path: Path) -> None:
    done = run(environment, tmp_path, "python", "-c", USE_KERNELS, BERTUNE_ISA="generic")
    assert "CPU kernels are not available" in done.stderr
    assert "no C compiler found" in done.stderr


def test_training_with_the_installed_samples_uses_them(environment: Path, tmp_path: Path) -> None:
    (samples,) = environment.glob("lib/python*/site-packages/bertune/samples/intents")
    threads = str(torch.get_num_threads())
    done = run(
        environment, tmp_path, "bertune", "train", "--task", "text-classification", "--encoder", "minilm",
        "--train", str(samples / "train.csv"), "--max-steps", "1", "--output", "out", OMP_NUM_THREADS=threads,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kernels are not available" not in done.stderr
    assert not list((tmp_path / "cache").glob("kernels/*"))
