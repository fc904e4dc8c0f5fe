"""Fuzzing guided by coverage: `python -m tests.fuzz [TARGET …] [--seconds N]`; `make fuzz` runs all of them.

Every target runs in a process of its own with bounded memory and time an input. What was found new is kept in
`out/fuzz/TARGET` and is where the next run begins; an input that breaks a reader lies there as `crash-…`, `timeout-…`
or `oom-…`, and the exit status is 1.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

OUT = Path("out/fuzz")
_MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None
MEMORY = 2048
"""MiB of a process; the libraries take about 600."""


def fuzz(name: str, seconds: int) -> None:
    """One target, in this process, which ends with it."""
    import atheris  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with atheris.instrument_imports(include=["bertune"]):
        from tests.fuzz.targets import TARGETS, run

    folder = OUT / name
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made:
        for number, seed in enumerate(TARGETS[name].seeds(Path(made))):
            (folder / f"seed-{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=_MEMORY_DISK) as inside:
            run(name, data, Path(inside))

    limits = [f"-max_total_time={seconds}", "-timeout=20", f"-rss_limit_mb={MEMORY}", "-max_len=4096"]
    atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", f"-artifact_prefix={folder}/", str(folder)], one)
    atheris.Fuzz()


def main() -> int:
    """Run targets one after the other. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="readers; left out: all")
    parser.add_argument("--seconds", type=int, default=20, help="of each target")
    parser.add_argument("--here", action="store_true", help="fuzz the one target in this process")
    options = parser.parse_args()
    if options.here:
        fuzz(options.target[0], options.seconds)
        return 0
    from tests.fuzz.targets import TARGETS  # not before: what is instrumented must not be loaded yet

    if unknown := set(options.target) - set(TARGETS):
        parser.error(f"no reader {', '.join(unknown)}; known: {', '.join(TARGETS)}")
    broken = []
    for name in options.target or TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", name, "--here", "--seconds", str(options.seconds)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = said.stderr.splitlines()
        facts = [line.split()[-1] for line in lines if line.startswith("stat::number_of_executed_units")]
        coverage = [line for line in lines if " cov: " in line][-1:]
        seen = coverage[0].split(" cov: ")[1].split()[0] if coverage else "?"
        print(f"{name}: {''.join(facts) or '?'} inputs, coverage {seen}, status {said.returncode}", flush=True)
        if said.returncode:
            broken.append(name)
            print("\n".join(line for line in lines if not line.startswith(("#", "INFO")))[-4000:], flush=True)
    print(f"{len(options.target or TARGETS)} readers, {len(broken)} broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
