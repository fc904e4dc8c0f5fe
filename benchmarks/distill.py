"""What distillation brings: minilm's every second layer on SST-2, from its labels and from a minilm that learnt them.

python -m benchmarks.distill [--rows 10000] [--unlabelled 20000] [--seeds 1] [--first-seed 1] [--epochs 3]

The teacher learns from the first rows; the next ones are text without labels. Needs the data that BERTUNE_SHARED points
to. Accuracies are on SST-2's development set (872 rows: one answer is 0.11 points).
"""

import argparse
import json
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, machine, save_result
from bertune.distill.distill import distill
from bertune.training.train import train


def rows_of(path: Path) -> list[dict[str, str]]:
    """SST-2's sentences and labels."""
    lines = path.read_text(encoding="utf-8").splitlines()[1:]
    return [dict(zip(("text", "label"), line.rstrip().rsplit("\t", 1), strict=True)) for line in lines]


def write(path: Path, rows: list[dict[str, str]], *, labels: bool = True) -> Path:
    """JSON lines."""
    kept = rows if labels else [{"text": row["text"]} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return path


def once(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Teacher, student from labels and distilled student with one seed."""
    data = Path(os.environ["BERTUNE_SHARED"]) / "data/glue/SST-2"
    rows = rows_of(data / "train.tsv")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        labelled = write(folder / "train.jsonl", rows[: options.rows])
        more = rows[options.rows : options.rows + options.unlabelled]
        unlabelled = write(folder / "unlabelled.jsonl", more, labels=False)
        dev = write(folder / "dev.jsonl", rows_of(data / "dev.tsv"))
        train(
            task="text-classification", encoder="minilm", train=labelled, validation=dev, output=folder / "teacher",
            epochs=options.epochs, learning_rate=1e-4, seed=seed,
        )  # fmt: skip
        found = distill(
            teacher=folder / "teacher", student="every:2", unlabelled=unlabelled, train=labelled, validation=dev,
            output=folder / "student", epochs=options.epochs, learning_rate=2e-4, seed=seed,
        )  # fmt: skip
        names = ("teacher", "labels_only", "student")
        runs = zip(names, found.comparison["runs"], strict=True)
        return {name: {"accuracy": run["metrics"]["accuracy"], **found.models[run["run"]]} for name, run in runs}


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--unlabelled", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=3)
    options = parser.parse_args()
    print(describe(machine()))
    found = [once(options, seed) for seed in range(options.first_seed, options.first_seed + options.seeds)]
    for name in ("teacher", "labels_only", "student"):
        means = {key: statistics.mean(one[name][key] for one in found) for key in found[0][name]}
        save_result(
            "distill",
            {"model": name, "seeds": options.seeds, "first_seed": options.first_seed, "rows": options.rows, **means},
        )


if __name__ == "__main__":
    main()
