"""What the fast route costs in accuracy: MRPC from minilm, seeds 1 to 5, in float32 and in what `auto` picks here.

python -m benchmarks.precision [--precision fp32 bf16 ...] [--seeds 1,2,3,4,5]

Needs the data that BERTUNE_SHARED points to; made-up pairs have nothing to learn. Both sides are the program's own
command: 5 epochs, batches of 32, rate 1e-4, the best model by the development set.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.workers import keep, machine
from benchmarks.workloads import mrpc_folder


def measure(precision: str, seeds: str, folder: Path) -> dict[str, Any]:
    """Mean and spread of the development metrics over the seeds, and the time of all."""
    data = mrpc_folder()
    options = {
        "task": "mrpc", "encoder": "minilm", "train": data / "train.tsv", "validation": data / "dev.tsv",
        "output": folder, "epochs": 5, "learning-rate": 1e-4, "batch-size": 32, "seeds": seeds, "precision": precision,
    }  # fmt: skip
    command = [sys.executable, "-m", "bertune", "train"]
    start = time.perf_counter()
    subprocess.run([*command, *(f"--{name}={value}" for name, value in options.items())], check=True)
    found = json.loads((folder / "seeds.json").read_text(encoding="utf-8"))
    return {
        "precision": precision,
        "mean": found["mean"],
        "standard_deviation": found["standard_deviation"],
        "accuracies": {seed: metrics["accuracy"] for seed, metrics in found["seeds"].items()},
        "seconds": time.perf_counter() - start,
        "machine": machine(),
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", default=["fp32", "auto"])
    parser.add_argument("--seeds", default="1,2,3,4,5")
    said = parser.parse_args()
    if "BERTUNE_SHARED" not in os.environ:
        sys.exit("set BERTUNE_SHARED to the folder whose data/ holds the data sets")
    for precision in said.precision:
        with tempfile.TemporaryDirectory() as folder:
            keep("precision", measure(precision, said.seeds, Path(folder, "model")))


if __name__ == "__main__":
    main()
