"""Commands and calls in a child process of their own, with little memory and time: what they came to."""

import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.errors import InputError

MEMORY = 1 << 30
"""Address space that a child may add to what it starts with, in bytes."""
SECONDS = 30
"""After these the child is killed; a refusal takes a fraction of it, also on a busy machine."""


@dataclass(frozen=True)
class Verdict:
    """How a child ended: exit status (-9: killed for its time), what it said, seconds, bytes its memory grew by."""

    status: int
    out: str
    err: str
    seconds: float
    grown: int


def call(work: Callable[[], object], folder: Path) -> Verdict:
    """Run `work` in a fork. InputError is status 2 as in the commands; other errors are status 1 with a traceback.

    folder: for what the child says and for its temporary files (`folder/tmp`); made when absent.
    """
    (folder / "tmp").mkdir(parents=True, exist_ok=True)
    said, told, grown = folder / "out", folder / "err", folder / "grown"
    start = time.monotonic()
    child = os.fork()
    if not child:
        _in_child(work, folder, (said, told, grown))
    status = None
    while status is None and time.monotonic() - start < SECONDS:
        done, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.005)
    seconds = time.monotonic() - start
    if status is None:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    size = int(grown.read_text()) if grown.exists() else 0
    verdict = Verdict(-9 if status is None else status, said.read_text(), told.read_text(), seconds, size)
    for path in (said, told, grown):
        path.unlink(missing_ok=True)
    return verdict


def command(arguments: Sequence[object], folder: Path) -> Verdict:
    """Run `bertune ARGUMENTS…`."""
    from bertune.cli.main import main

    return call(lambda: main([str(argument) for argument in arguments]), folder)


def _in_child(work: Callable[[], object], folder: Path, files: tuple[Path, Path, Path]) -> None:
    """Never returns."""
    status: object = 1
    try:
        for number, path in zip((1, 2), files, strict=False):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + MEMORY,) * 2)
        Path("/proc/self/clear_refs").write_text("5")  # the highest use begins anew
        before = _memory("VmRSS")
        try:
            status = work() or 0
        finally:
            files[2].write_text(str(_memory("VmHWM") - before))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)


def _memory(name: str) -> int:
    """A line of the process's status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{name}:"))
