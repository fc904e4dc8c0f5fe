"""A long file's first updates, with tokenizing before them and beside them: `python -m benchmarks.overlap [ROWS]`.

Seconds of minilm's training on made-up pairs of MRPC's lengths, from the moment that the rows are read: medians of two
turns in either order, after a run that compiles and warms and is thrown away. Nothing is kept for the next run.
"""

import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from rich.console import Console
from rich.table import Table

from benchmarks.workers import ROOT, keep, machine, say
from benchmarks.workloads import WORDS

UPDATES = (1, 100, 400)
ORDERS = (("before", "beside"), ("beside", "before"))


def write_pairs(path: Path, rows: int) -> None:
    """Pairs of words that a WordPiece vocabulary mostly has whole, 53 pieces a pair."""
    rng = random.Random(1)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["text", "pair", "label"])
        for row in range(rows):
            texts = [" ".join(rng.choices(WORDS, k=max(8, round(rng.gauss(25, 6))))) for _ in range(2)]
            table.writerow([*texts, row % 2])


def measure(data: str, beside: bool) -> None:
    """In a process of its own: train, and tell when every one of UPDATES was done."""
    import bertune
    from bertune.checking.doctor import tell_briefly
    from bertune.tasks import feature_cache
    from bertune.training import splits
    from bertune.training.loop import loop
    from bertune.training.loop.update import update

    feature_cache.LONG = 1 if beside else sys.maxsize
    found: dict[str, float] = {}
    start = time.perf_counter()

    def looked(*arguments: Any) -> None:
        nonlocal start
        tell_briefly(*arguments)
        start = time.perf_counter()

    def updated(*arguments: Any) -> Any:
        made = update(*arguments)
        number = arguments[3].step + 1
        if number in UPDATES:
            found[str(number)] = time.perf_counter() - start
        return made

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(splits, "tell_briefly", looked),
        mock.patch.object(loop, "update", updated),
    ):
        bertune.train(
            task="text-classification",
            encoder="minilm",
            train=data,
            output=f"{folder}/model",
            max_steps=max(UPDATES),
            feature_cache=False,
        )
    say(**found)


def run(data: Path, way: str) -> dict[str, float]:
    """One run in a fresh process: seconds by the number of updates."""
    command = [sys.executable, "-m", "benchmarks.overlap", str(data), way]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, float] = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    return told


def main() -> None:
    """See the module's docstring."""
    if len(sys.argv) == 3:
        measure(sys.argv[1], sys.argv[2] == "beside")
        return
    rows = int(sys.argv[1]) if len(sys.argv) == 2 else 200_000
    runs: dict[str, list[dict[str, float]]] = {"before": [], "beside": []}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "train.csv"
        write_pairs(data, rows)
        run(data, "beside")
        for order in ORDERS:
            for way in order:
                runs[way].append(run(data, way))
    table = Table("tokenizing", *(f"update {number}, s" for number in UPDATES))
    medians: dict[str, dict[str, float]] = {}
    for way, found in runs.items():
        medians[way] = {str(number): statistics.median(one[str(number)] for one in found) for number in UPDATES}
        table.add_row(way, *(f"{seconds:.1f}" for seconds in medians[way].values()))
    Console().print(table)
    keep("overlap", {"rows": rows, **medians, "runs": runs, "machine": machine()})


if __name__ == "__main__":
    main()
