"""Real `bertune` processes in a tenth of a second: forks of one that has imported everything.

A fork is a process as any other: it has its own signals, files and limits, and is killed without a word. Without forks
every one of them would import PyTorch for seconds.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Child:
    """A running `bertune` process. err: the file that its stderr goes to; stdout goes there too."""

    pid: int
    err: Path
    nursery: "Nursery"
    status: int | None = None

    def ended(self) -> bool:
        """Whether it has an exit status."""
        if self.status is None:
            self.status = self.nursery.ask({"poll": self.pid})
        return self.status is not None

    def wait(self, timeout: float = 120) -> int:
        """The exit status; minus the signal's number where one killed it."""
        end = time.monotonic() + timeout
        while not self.ended():
            assert time.monotonic() < end, f"{self.pid} still runs after {timeout} s:\n{self.told}"
            time.sleep(0.01)
        assert self.status is not None
        return self.status

    def until(self, text: str, timeout: float = 60) -> None:
        """Wait until it says something."""
        end = time.monotonic() + timeout
        while text not in self.told:
            assert time.monotonic() < end, f"never said {text!r}:\n{self.told}"
            assert not self.ended() or text in self.told, f"ended with {self.status}, not {text!r}:\n{self.told}"
            time.sleep(0.005)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        os.kill(self.pid, number)

    @property
    def told(self) -> str:
        """What it said so far."""
        return self.err.read_text(encoding="utf-8", errors="replace")


class Nursery:
    """The process that forks."""

    def __init__(self, folder: Path) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "BERTUNE_CACHE": str(folder / "cache")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.nursery"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._folder, self._count = folder, 0
        self._stores: list[Any] = []

    def ask(self, command: dict[str, Any]) -> Any:
        """Its answer to a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        *arguments: object,
        largest_file: int | None = None,
        ignored: Sequence[signal.Signals] = (),
        environment: Mapping[str, str] | None = None,
        call: str | None = None,
    ) -> Child:
        """A process `bertune ARGUMENTS…`.

        Args:
            arguments: of the command line.
            largest_file: limit to what it may write into one file, in bytes.
            ignored: signals that it ignores from the start, as after nohup.
            environment: variables that it has besides.
            call: `module:function`, called with the arguments instead of bertune's command line.
        """
        self._count += 1
        err = self._folder / f"{self._count}.err"
        err.touch()
        command: dict[str, Any] = {
            "argv": [str(one) for one in arguments],
            "err": str(err),
            "largest_file": largest_file,
        }
        command |= {"ignored": [int(one) for one in ignored], "environment": dict(environment or {}), "call": call}
        return Child(self.ask(command), err, self)

    def ranks(self, count: int, *arguments: object, restart: int = 0, call: str | None = None) -> list[Child]:
        """As many processes as torchrun would start, of the same command."""
        import torch

        # torchrun's agent holds the store, so that it outlives every rank, and after a restart is the same.
        if not restart:
            store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
                "127.0.0.1", 0, is_master=True, wait_for_workers=False
            )
            self._stores.append(store)
        port = self._stores[-1].port
        shared: dict[str, object] = {
            "WORLD_SIZE": count,
            "LOCAL_WORLD_SIZE": count,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        shared |= {"TORCHELASTIC_RESTART_COUNT": restart, "TORCHELASTIC_USE_AGENT_STORE": "True"}
        return [
            self.start(
                *arguments,
                call=call,
                environment={name: str(value) for name, value in (shared | {"RANK": i, "LOCAL_RANK": i}).items()},
            )
            for i in range(count)
        ]

    def close(self) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(30)


@contextlib.contextmanager
def nursery_in(folder: Path) -> Iterator[Nursery]:
    """A nursery while the context is open. folder: for what its children say."""
    nursery = Nursery(folder)
    try:
        yield nursery
    finally:
        nursery.close()


def command_line(options: dict[str, Any], output: Path) -> list[object]:
    """`bertune train` or `pretrain` with these options."""
    said = {f"--{name.replace('_', '-')}": value for name, value in options.items() if value is not None}
    flags = [part for pair in said.items() for part in pair]
    return ["train" if "task" in options else "pretrain", *flags, "--output", output]


def _serve() -> None:
    import torch

    from bertune.encoder.kernels.build import library
    from bertune.tasks.registry import TASKS, task_kind

    for name in TASKS:
        task_kind(name)
    for dtype in (torch.float32, torch.bfloat16):
        library(dtype)
    torch.set_num_threads(1)
    for line in sys.stdin:
        command = json.loads(line)
        if "poll" in command:
            pid, status = os.waitpid(command["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                _child(command)
        print(json.dumps(answer), flush=True)


def _child(command: dict[str, Any]) -> None:
    handle = os.open(command["err"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    for number in command["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    if command["largest_file"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (command["largest_file"],) * 2)
    os.environ.update(command["environment"])
    from bertune.cli.main import main

    status = 1
    try:
        if command["call"]:
            module, _, function = command["call"].partition(":")
            status = getattr(importlib.import_module(module), function)(*command["argv"])
        else:
            status = main(command["argv"])
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
