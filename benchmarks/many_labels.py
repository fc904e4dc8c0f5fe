"""6,000 rows and 5,000 labels: `python -m benchmarks.many_labels`.

Seconds and peak memory of `bertune train` (30 updates, then validation on all rows), `evaluate` and `predict`, each in
a process of its own, with a tiny random encoder, so that what is measured is the work on labels.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import save_result

ROWS, LABELS = 6_000, 5_000
RUN = """
import resource, sys
from bertune.cli.main import main
status = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10, file=sys.stderr)
sys.exit(status)
"""
FORMS = {"text-classification": "label", "multi-label-classification": "labels"}


def write_data(path: Path, column: str) -> None:
    """Rows with one label, or one to three of them."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for row in range(ROWS):
            names = [f"label {(row + i * 7) % LABELS}" for i in range(1 if column == "label" else chance.randint(1, 3))]
            text = " ".join(chance.choices(("good", "bad", "film", "the", "is", "fine"), k=8))
            file.write(json.dumps({"text": text, column: names[0] if column == "label" else names}) + "\n")


def measured(*arguments: object) -> tuple[float, float]:
    """Seconds, and MiB at the peak, of a command."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, arguments)], check=False, capture_output=True, text=True, env=os.environ
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - begin, float(done.stderr.rsplit("peak", 1)[1])


def main() -> None:
    """Measure, print, keep."""
    from tests.tiny import write_encoder

    table = Table("task", "command", "seconds", "peak MiB", "answers MiB")
    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoder = write_encoder(folder / "encoder")
        for task, column in FORMS.items():
            data, model, answers = folder / f"{column}.jsonl", folder / task, folder / f"{column}.answers.jsonl"
            write_data(data, column)
            source = ("--task", task, "--encoder", encoder, "--train", data, "--validation", data, "--output", model)
            run = ("--max-steps", 30, "--learning-rate", 0.02, "--max-seq-length", 16, "--no-feature-cache")
            commands = {
                "train": (*source, *run, "--device", "cpu"),
                "evaluate": ("--model", model, "--data", data, "--no-feature-cache", "--json"),
                "predict": ("--model", model, "--input", data, "--output", answers),
            }
            for command, arguments in commands.items():
                seconds, peak = measured(command, *arguments)
                size = answers.stat().st_size / 2**20 if command == "predict" else 0.0
                results[f"{task} {command}"] = {"seconds": seconds, "peak_mib": peak, "answers_mib": size}
                table.add_row(task, command, f"{seconds:.1f}", f"{peak:.0f}", f"{size:.1f}" if size else "")
    Console().print(table)
    save_result("many_labels", results)


if __name__ == "__main__":
    main()
