"""Seconds from command to end: `bertune --help`, and a sentence through minilm. `python -m benchmarks.startup`."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

import bertune
from benchmarks.machine import save_result

ROUNDS = 5
SAMPLES = Path(bertune.__file__).parent / "samples/intents"


def seconds(*command: str) -> float:
    """Median wall time of a command, after one run that warms the file cache."""
    found = []
    for turn in range(ROUNDS + 1):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", *command], check=True, capture_output=True)
        if turn:
            found.append(time.perf_counter() - start)
    return statistics.median(found)


def main() -> None:
    """Measure and keep."""
    with tempfile.TemporaryDirectory() as base:
        model, one = Path(base) / "model", Path(base) / "one.csv"
        bertune.train(
            task="text-classification", encoder="minilm", train=SAMPLES / "train.csv", output=model, max_steps=1
        )
        one.write_text("text\nWhere is my parcel?\n", encoding="utf-8")
        results = {
            "help": seconds("bertune", "--help"),
            "predict_one": seconds(
                "bertune",
                "predict",
                "--model",
                str(model),
                "--input",
                str(one),
                "--output",
                str(Path(base) / "a.jsonl"),
            ),
            "peer_predict_one": seconds_of_peer(str(model)),
        }
    table = Table("", "seconds")
    for name, value in results.items():
        table.add_row(name, f"{value:.2f}")
    Console().print(table)
    save_result("startup", results)


def seconds_of_peer(model: str) -> float:
    """The same sentence through transformers' pipeline in a fresh process."""
    code = (
        "from transformers import pipeline; "
        f"pipeline('text-classification', model={model!r}, device='cpu')('Where is my parcel?')"
    )
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


if __name__ == "__main__":
    main()
