"""What the fast route costs in accuracy: MRPC from minilm, seeds 1 to 5, in float32 and in what `auto` picks here.

python -m benchmarks.precision [--precision fp32 bf16 ...] [--seeds 1,2,3,4,5]
python -m benchmarks.precision --steps 50: instead, how far the losses of a run of so many updates are apart, with the
same dropout masks in float32 and bfloat16

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
from unittest import mock

from benchmarks.machine import save_result
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
    }


def losses(precision: str, steps: int) -> list[float]:
    """Those of all updates of a run with seed 1. Masks are hashed from seeds that the run's seed alone decides."""
    import bertune
    from bertune.training.loop import loop
    from bertune.training.loop.loop import StepMetrics, update

    found: list[float] = []

    def updated(*arguments: Any) -> StepMetrics:
        made = update(*arguments)
        found.append(made.read()[0])
        return made

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop, "update", updated):
        bertune.train(
            task="mrpc",
            encoder="minilm",
            train=str(mrpc_folder() / "train.tsv"),
            output=f"{folder}/model",
            max_steps=steps,
            batch_size=32,
            learning_rate=1e-4,
            seed=1,
            precision=precision,
        )
    return found


def measure_steps(steps: int) -> dict[str, Any]:
    """Losses of both precisions, and the largest and the mean relative difference."""
    fp32, bf16 = losses("fp32", steps), losses("bf16", steps)
    apart = [abs(one - other) / abs(other) for one, other in zip(bf16, fp32, strict=True)]
    return {
        "steps": steps,
        "largest": max(apart),
        "mean": sum(apart) / len(apart),
        "fp32": fp32,
        "bf16": bf16,
    }


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", default=["fp32", "auto"])
    parser.add_argument("--seeds", default="1,2,3,4,5")
    parser.add_argument("--steps", type=int, default=0)
    said = parser.parse_args()
    if "BERTUNE_SHARED" not in os.environ:
        sys.exit("set BERTUNE_SHARED to the folder whose data/ holds the data sets")
    if said.steps:
        save_result("precision_steps", measure_steps(said.steps))
        return
    for precision in said.precision:
        with tempfile.TemporaryDirectory() as folder:
            save_result("precision", measure(precision, said.seeds, Path(folder, "model")))


if __name__ == "__main__":
    main()
