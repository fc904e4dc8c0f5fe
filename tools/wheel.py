"""Build the source distribution and a wheel that carries the kernels compiled: python -m tools.wheel [--output dist]

The wheel holds a library for each level that a compiler here can make: x86-64-v3, x86-64-v4, x86-64-v4-bf16 and, with
gcc's cross compiler, aarch64. Its platform tag names the architectures and the lowest glibc that has all functions
that the libraries call (PEP 600), so pip takes it on Linux alone; elsewhere pip takes the source distribution, which
installs without a compiler, and PyTorch's operations serve.

The libraries leave OpenMP's functions (GOMP_*, omp_*) to be found among what PyTorch has loaded: see
bertune.encoder.kernels.prebuilt.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune import processor
from bertune.encoder.kernels import build, prebuilt

ROOT = Path(__file__).resolve().parents[1]
LEVELS = ("x86-64-v3", "x86-64-v4", "x86-64-v4-bf16", "aarch64")
COMPILERS = {"x86_64": "x86_64-linux-gnu-gcc", "aarch64": "aarch64-linux-gnu-gcc"}
"""Debian's names of gcc for each architecture; on the machine's own, CC or gcc comes first."""
OLDEST_GLIBC = (2, 17)
"""That of manylinux2014, the oldest that PyTorch's and Python's own builds have in common."""


@dataclass(frozen=True)
class Needs:
    """What a shared library needs.

    glibc: the newest version that its functions come from.  others: functions that glibc lacks.  libraries: by name.
    """

    glibc: tuple[int, int]
    others: frozenset[str]
    libraries: frozenset[str]


def needs(library: Path) -> Needs:
    """Read a library's dynamic section with readelf."""

    def readelf(option: str) -> str:
        return subprocess.run(
            ["readelf", "--wide", option, str(library)], check=True, capture_output=True, text=True
        ).stdout

    glibc, others = OLDEST_GLIBC, set()
    for name, version in re.findall(r" GLOBAL +\w+ +UND (\w+)(?:@(\S+))?", readelf("--dyn-syms")):
        numbers = re.fullmatch(r"GLIBC_(\d+)\.(\d+)(?:\.\d+)?", version)
        if numbers:
            glibc = max(glibc, (int(numbers[1]), int(numbers[2])))
        else:
            others.add(name)
    return Needs(glibc, frozenset(others), frozenset(re.findall(r"\(NEEDED\).*\[(.+)\]", readelf("--dynamic"))))


def compiler(machine: str) -> str | None:
    """A gcc that makes libraries for this architecture; None where there is none."""
    native = [os.environ.get("CC"), "gcc"] if machine == processor.machine() else []
    return next((found for name in [*native, COMPILERS[machine]] if name and (found := shutil.which(name))), None)


def compile_levels(folder: Path) -> Iterator[tuple[str, Path]]:
    """Compile what can be compiled here into `folder`; yields each library's architecture and path.

    Raises:
        SystemExit: a library would need more than glibc and OpenMP.
    """
    folder.mkdir(parents=True)
    for level in LEVELS:
        machine = processor.LEVELS[level].machine
        gcc = compiler(machine)
        if gcc is None:
            print(f"{level}: left out, for there is no {COMPILERS[machine]}")
            continue
        for dtype in build.DEFINES:
            target = folder / prebuilt.file_name(level, dtype)
            compiled = target.with_suffix(".o")
            _run(
                [gcc, *build.compiler_flags(level, dtype), "-c", str(build.SOURCES / "kernels.c"), "-o", str(compiled)]
            )
            _run([gcc, "-shared", "-s", str(compiled), "-o", str(target), "-lm"])  # without -fopenmp, so no libgomp
            compiled.unlink()
            found = needs(target)
            foreign = sorted(name for name in found.others if not name.startswith(("GOMP_", "omp_")))
            if foreign or not found.libraries <= {"libm.so.6", "libc.so.6"}:
                sys.exit(f"{target.name} needs {', '.join([*foreign, *sorted(found.libraries)])}; compile with gcc")
            print(f"{target.name}: {target.stat().st_size // 1024} KiB, glibc {'.'.join(map(str, found.glibc))}")
            yield machine, target


def add_kernels(pure: Path, output: Path) -> Path:
    """Write a copy of a pure wheel with the kernels in it, tagged for what they run on, into `output`."""
    with tempfile.TemporaryDirectory() as work:
        _run([sys.executable, "-m", "wheel", "unpack", "--dest", work, str(pure)])
        (tree,) = Path(work).iterdir()
        glibc: dict[str, tuple[int, int]] = {}
        for machine, library in compile_levels(tree / prebuilt.FOLDER.relative_to(ROOT / "src")):
            glibc[machine] = max(glibc.get(machine, OLDEST_GLIBC), needs(library).glibc)
        if not glibc:
            sys.exit("no gcc here: a wheel without kernels would serve nobody better than the source distribution")
        (facts,) = tree.glob("*.dist-info/WHEEL")
        lines = [line for line in facts.read_text().splitlines() if not line.startswith(("Root-Is-Purelib", "Tag"))]
        tags = [f"Tag: py3-none-manylinux_{a}_{b}_{machine}" for machine, (a, b) in sorted(glibc.items(), reverse=True)]
        facts.write_text("\n".join([*filter(None, lines), "Root-Is-Purelib: false", *tags, ""]))
        before = set(output.glob("*.whl"))
        _run([sys.executable, "-m", "wheel", "pack", "--dest-dir", str(output), str(tree)])
        (made,) = set(output.glob("*.whl")) - before
        return made


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=ROOT / "dist", help="folder; older distributions in it are removed"
    )
    output: Path = parser.parse_args().output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    for old in [*output.glob("bertune-*.whl"), *output.glob("bertune-*.tar.gz")]:
        old.unlink()
    with tempfile.TemporaryDirectory() as work:
        # The wheel is built from the source distribution, so a file that lacks there is found out here.
        _run([sys.executable, "-m", "build", "--no-isolation", "--outdir", work, str(ROOT)])
        (source,), (pure,) = Path(work).glob("*.tar.gz"), Path(work).glob("*.whl")
        wheel = add_kernels(pure, output)
        shutil.move(source, output / source.name)
    print(f"{output / source.name}\n{wheel}")


if __name__ == "__main__":
    main()
