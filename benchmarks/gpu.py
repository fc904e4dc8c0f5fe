"""Fine-tuning and prediction on one GPU, beside transformers.Trainer in bfloat16: `python -m benchmarks.gpu`.

First `tests/cuda`, for a figure of something wrong is worth nothing (`--no-tests` leaves them out). Words choose cases
(`train bert-base`, `predict`, `serve`, `minilm`); `--quick` takes two turns instead of five. Needs torch with CUDA,
transformers and accelerate; no network, no data set: sequences are made up, with MRPC's number and lengths.
"""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save_result
from benchmarks.workers import Worker, take_turns

ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """job: train, predict or serve (a sequence a call).  batch: sequences an update, or the most at a time.

    graphs: on or off.  peer: whether it is measured, too.
    """

    job: str
    encoder: str
    batch: int
    graphs: str = "on"
    peer: bool = True


CASES = [
    Case("train", "bert-base", 32),
    Case("train", "bert-base", 32, "off", peer=False),
    Case("train", "bert-base", 256),
    Case("train", "minilm", 32),
    Case("train", "minilm", 32, "off", peer=False),
    Case("train", "minilm", 256),
    Case("predict", "bert-base", 32),
    Case("predict", "bert-base", 32, "off", peer=False),
    Case("predict", "bert-base", 256),
    Case("predict", "bert-base", 1024),
    Case("predict", "minilm", 32),
    Case("predict", "minilm", 32, "off", peer=False),
    Case("predict", "minilm", 256),
    Case("predict", "minilm", 256, "off", peer=False),
    Case("predict", "minilm", 1024),
    Case("serve", "bert-base", 1, peer=False),
    Case("serve", "bert-base", 1, "off", peer=False),
    Case("serve", "minilm", 1, peer=False),
    Case("serve", "minilm", 1, "off", peer=False),
]


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Both sides in turn, whole epochs at a time, so that both see the same sequences.

    The limit: (6 in training, else 2) x weights of the encoder's layers x real tokens, at the bfloat16 rate of
    large products that bertune's process measured.
    """
    common = [case.job, case.encoder, str(case.batch)]
    workers = [
        Worker(
            "bertune",
            ["benchmarks.gpu_own", *common],
            {"BERTUNE_CUDA_GRAPHS": case.graphs},
            measures_at_start=True,
        )
    ]
    if case.peer:
        workers.append(Worker("peer", ["benchmarks.gpu_peer", *common]))
    facts = take_turns(workers, {worker.name: 1 for worker in workers}, rounds)["bertune"]
    mine = workers[0].median("examples_per_second")
    work = (6 if case.job == "train" else 2) * facts["layer_weights"] * facts["mean_tokens"]
    result = {
        "job": case.job,
        "encoder": case.encoder,
        "batch": case.batch,
        "graphs": case.graphs,
        "bertune_examples_per_second": mine,
        "bertune_rounds": [report["examples_per_second"] for report in workers[0].reports],
        "share_of_limit": work * mine / facts["matrix_rate"],
        **facts,
        "recorded": workers[0].reports[-1].get("recorded"),
        "peak_gib": workers[0].reports[-1].get("peak_gib"),
        "machine": machine() | {"cuda": torch.version.cuda},
    }
    if case.peer:
        theirs = workers[1].median("examples_per_second")
        result |= {
            "peer": "transformers.Trainer, bf16, dynamic padding, grouped by length",
            "peer_examples_per_second": theirs,
            "peer_rounds": [report["examples_per_second"] for report in workers[1].reports],
            "ratio": mine / theirs,
        }
    return result


def main() -> None:
    """See the module's docstring."""
    if not torch.cuda.is_available():
        sys.exit("no CUDA device here; nothing was measured")
    if "--no-tests" not in sys.argv:
        tests = [sys.executable, "-m", "pytest", "-q", "-m", "cuda", "-rs", "tests/cuda"]
        if subprocess.run(tests, check=False).returncode:
            sys.exit("tests/cuda failed; nothing was measured (--no-tests measures all the same)")
    words = {word for word in sys.argv[1:] if not word.startswith("--")}
    cases = [case for case in CASES if words <= {case.job, case.encoder}]
    if not cases:
        sys.exit(f"no case is called {' '.join(sorted(words))}; words: train, predict, serve, bert-base, minilm")
    table = Table("job", "encoder", "batch", "graphs", "bertune ex/s", "peer ex/s", "ratio", "of the limit", "peak GiB")
    for case in cases:
        result = measure(case, 2 if "--quick" in sys.argv else ROUNDS)
        save_result("gpu", result)
        theirs, ratio = result.get("peer_examples_per_second"), result.get("ratio")
        table.add_row(
            case.job,
            case.encoder,
            str(case.batch),
            f"{result['recorded']}",
            f"{result['bertune_examples_per_second']:.0f}",
            "" if theirs is None else f"{theirs:.0f}",
            "" if ratio is None else f"{ratio:.2f}",
            f"{result['share_of_limit']:.0%}",
            f"{result['peak_gib']:.2f}",
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
