"""Two warmed-up processes that take turns: each works on command and reports, the other waits."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from benchmarks.machine import ROOT


@dataclass
class Worker:
    """A process that answers every line on its stdin with a JSON line on its stdout.

    measures_at_start: to be started when all others are warm and at rest.
    """

    name: str
    arguments: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    measures_at_start: bool = False
    reports: list[dict[str, float]] = field(default_factory=list)

    def launch(self) -> None:
        """Start it; `ready` waits for it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", *self.arguments],
            cwd=ROOT,
            env=os.environ | self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> dict[str, Any]:
        """Wait until it is warm; returns what it says of itself."""
        return self._answer()

    def go(self, units: int) -> None:
        """Have it work on `units` (steps, passes) and keep its report."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{units}\n")
        self._process.stdin.flush()
        self.reports.append(self._answer())

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()

    def median(self, key: str) -> float:
        """Median of a reported figure."""
        return statistics.median(report[key] for report in self.reports)

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"{self.name} ended without an answer: {' '.join(self.arguments)}")


def commands() -> Iterator[int]:
    """In a worker: the units asked for, one command after the other; the process ends with the last."""
    for line in sys.stdin:
        yield int(line)
    end()


def end() -> NoReturn:
    """In a worker: leave at once."""
    os._exit(0)


def say(**facts: Any) -> None:
    """In a worker: answer."""
    print(json.dumps(facts), flush=True)


def take_turns(workers: Sequence[Worker], units: dict[str, int], rounds: int) -> dict[str, dict[str, Any]]:
    """Start all, then let each work in turn, `rounds` times. Returns what each said of itself."""
    facts: dict[str, dict[str, Any]] = {}
    launched: list[Worker] = []
    try:
        for alone in (False, True):
            some = [worker for worker in workers if worker.measures_at_start == alone]
            for group in [[worker] for worker in some] if alone else [some]:
                for worker in group:
                    worker.launch()
                    launched.append(worker)
                for worker in group:
                    facts[worker.name] = worker.ready()
        for _ in range(rounds):
            for worker in workers:
                worker.go(units[worker.name])
    finally:
        for worker in launched:
            worker.stop()
    return facts
