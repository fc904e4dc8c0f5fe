"""What each technique of fine-tuning brings: minilm on several tasks, with and without it, over some seeds.

python -m benchmarks.techniques run [--rows 600] [--dev 1000] [--seeds 5] [--jobs mrpc …] [--variants plain …]
                                    [--seconds 500] [--ledger FILE]
python -m benchmarks.techniques table [--ledger FILE]

Every run learns from the first rows and is judged by its last weights on the development set's first rows, which it has
not seen: nothing is selected (but soups, which keep the mean or the best run by 120 further rows). `run` goes on where
its ledger ends and begins nothing after --seconds; several may share a ledger, each with jobs of its own. `table` gives
differences to the plain run of the same seed. Needs the data that BERTUNE_SHARED points to.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, machine
from benchmarks.quality import JOBS, Job, shortened

TASKS = JOBS | {
    "cola": Job("cola", "glue/CoLA/train.tsv", "glue/CoLA/dev.tsv", 3, 1e-4),
    "sst2": Job("sst2", "glue/SST-2/train.tsv", "glue/SST-2/dev.tsv", 3, 1e-4),
}
METRICS = {"mrpc": "accuracy", "cola": "matthews_correlation", "stsb": "spearman", "sst2": "accuracy", "conll": "f1"}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "reinitialize": {"reinitialize_layers": 1},
    "epochs-x3": {"epochs": 3.0},
    "x3+reinitialize": {"epochs": 3.0, "reinitialize_layers": 1},
    "pair": {"pooling": "pair"},
    "layer-decay": {"layer_decay": 0.9},
    "ema": {"ema": 0.98},
    "average-last": {"average_last": 3},
    "soup": {"soup": 3},
    "fgm": {"fgm": 0.2},
    "r-drop": {"r_drop": 1.0},
    "freelb": {"freelb": 0.2},
}
"""Options that differ from the plain run's; of epochs a factor."""
ONLY = {"pair": ("mrpc", "stsb")}
"""Tasks that a variant is for, where it is not for all."""
GUARD = 120
"""Rows after those to learn from, by which a soup sees whether its runs go together."""
BATCH = 16


def once(job: Job, files: tuple[Path, Path, Path], variant: str, seed: int) -> dict[str, Any]:
    """One run: its metrics on the development rows, and the seconds that its updates took."""
    import bertune

    given = {"learning_rate": job.learning_rate, **VARIANTS[variant]}
    given["epochs"] = job.epochs * given.get("epochs", 1.0)
    given |= {"validation": files[2]} if variant == "soup" else {"validation_share": 0}
    with tempfile.TemporaryDirectory() as folder:
        result = bertune.train(
            task=job.task, encoder="minilm", train=files[0], output=f"{folder}/model",
            max_seq_length=128, batch_size=BATCH, seed=seed, **given,
        )  # fmt: skip
        metrics = bertune.load(f"{folder}/model").evaluate(files[1])
    return {"train_seconds": result.metrics["train_seconds"], "steps": result.steps, **metrics}


def run(options: argparse.Namespace) -> None:
    """Runs that the ledger lacks, seed by seed, until the time is over."""
    began, done = time.monotonic(), {(one["job"], one["variant"], one["seed"]) for one in read(options.ledger)}
    shared = Path(os.environ["BERTUNE_SHARED"], "data")
    print(describe(machine()))
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(1, options.seeds + 1):
            for name in options.jobs:
                job = TASKS[name]
                files = (
                    shortened((shared / job.train).resolve(), options.rows, Path(folder)),
                    shortened((shared / job.dev).resolve(), options.dev, Path(folder)),
                    shortened((shared / job.train).resolve(), GUARD, Path(folder), skip=options.rows),
                )
                for variant in options.variants:
                    if (name, variant, seed) in done or name not in ONLY.get(variant, TASKS):
                        continue
                    if time.monotonic() - began > options.seconds:
                        return
                    facts = {"job": name, "variant": variant, "seed": seed, "rows": options.rows, "dev": options.dev}
                    facts["cpu"] = machine()["cpu"]
                    line = json.dumps(facts | once(job, files, variant, seed))
                    with options.ledger.open("a", encoding="utf-8") as file:
                        file.write(line + "\n")


def read(ledger: Path) -> list[dict[str, Any]]:
    """The runs so far."""
    lines = ledger.read_text(encoding="utf-8").splitlines() if ledger.exists() else []
    return [json.loads(line) for line in lines]


def table(ledger: Path) -> None:
    """Differences to the plain run of the same seed: mean ± standard deviation, in points; seconds as a multiple."""
    values: dict[tuple[str, str], dict[int, tuple[float, float]]] = defaultdict(dict)
    for one in read(ledger):
        values[one["job"], one["variant"]][one["seed"]] = (100 * one[METRICS[one["job"]]], one["train_seconds"])
    jobs = [name for name in TASKS if (name, "plain") in values]
    print("| technique | " + " | ".join(f"{name}, {METRICS[name]}" for name in jobs) + " | mean | time |")
    print("|---" * (len(jobs) + 3) + "|")
    for variant in VARIANTS:
        cells, gains, costs = [], [], []
        for name in jobs:
            plain, found = values[name, "plain"], values[name, variant]
            seeds = sorted(set(plain) & set(found))
            if not seeds:
                cells.append("")
                continue
            own = [found[seed][0] for seed in seeds]
            differences = [found[seed][0] - plain[seed][0] for seed in seeds]
            shown = own if variant == "plain" else differences
            spread = statistics.stdev(shown) if len(shown) > 1 else float("nan")
            sign = "" if variant == "plain" else "+"
            cells.append(f"{statistics.mean(shown):{sign}.1f} ± {spread:.1f} ({len(seeds)})")
            gains.append(statistics.mean(differences))
            costs.append(statistics.median(found[seed][1] / plain[seed][1] for seed in seeds))
        mean = f"{statistics.mean(gains):+.1f}" if gains else ""
        cost = f"{statistics.median(costs):.1f}x" if costs else ""
        print(f"| {variant} | " + " | ".join(cells) + f" | {mean} | {cost} |")


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--dev", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", nargs="+", default=list(TASKS), choices=TASKS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seconds", type=float, default=500, help="begin nothing later than this")
    parser.add_argument("--ledger", type=Path, default=Path("benchmarks/results/techniques.jsonl"))
    options = parser.parse_args()
    if options.what == "table":
        table(options.ledger)
    else:
        run(options)


if __name__ == "__main__":
    main()
