"""What finetune.py and predict.py share: bertune and its peers in turn, as rows of a table and JSON lines."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import ISAS, describe, environment, save_result
from benchmarks.workers import Worker, take_turns
from benchmarks.workloads import mrpc_folder
from bertune import processor
from bertune.encoder import int8
from bertune.hardware import choose_device, choose_dtype


@dataclass(frozen=True)
class Peer:
    """engine: Trainer, or one of `engines.ENGINES`.  padding: within a batch (dynamic), or to 128 (max)."""

    engine: str
    precision: str
    padding: str = "dynamic"

    @property
    def name(self) -> str:
        """As results name it."""
        return f"{self.engine} {self.precision}" + (", padded to 128" if self.padding == "max" else "")

    def arguments(self, job: str, encoder: str, folder: str) -> list[str]:
        """Of its worker."""
        if self.engine == "Trainer":
            return ["benchmarks.peer", job, encoder, folder, self.precision, self.padding]
        return ["benchmarks.engines", self.engine, encoder, folder, self.precision]


@dataclass(frozen=True)
class Comparison:
    """job: train or predict.  own: bertune's precisions.  units: steps or batches a turn."""

    job: str
    encoder: str
    own: tuple[str, ...]
    peers: tuple[Peer, ...]
    units: int
    rounds: int = 3


@dataclass(frozen=True)
class Choice:
    """What the command line asks for."""

    precisions: tuple[str, ...]
    encoders: tuple[str, ...]
    full: bool
    isa: str | None


def choose(doc: str | None) -> Choice:
    """Read the command line of a comparison."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", choices=[*ISAS, *processor.LEVELS], help="hold all sides to an instruction set")
    parser.add_argument("--encoder", choices=("minilm", "bert-base"), action="append", help="one only; both otherwise")
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "int8"),
        action="append",
        help="bertune's; without it what the processor is best at",
    )
    parser.add_argument("--full", action="store_true", help="also the peers' default settings, and float32")
    options = parser.parse_args()
    precisions = options.precision or native_precisions(options.isa)
    return Choice(tuple(precisions), tuple(options.encoder or ("minilm", "bert-base")), options.full, options.isa)


def native_precisions(isa: str | None) -> list[str]:
    """bf16 where the processor multiplies it, else fp32; int8 too where it has 8-bit products."""
    if isa is not None:
        return ["bf16", "int8"] if ISAS.get(isa, isa) == "x86-64-v4-bf16" else ["fp32"]
    device = choose_device("auto")
    best = "bf16" if choose_dtype("auto", device) == torch.bfloat16 else "fp32"
    return [best, "int8"] if device.type == "cpu" and int8.supported() else [best]


def run(comparisons: Sequence[Comparison], isa: str | None) -> None:
    """Measure all; of each comparison save the result and print a table."""
    for comparison in comparisons:
        result = measure(comparison, isa)
        save_result(comparison.job, result)
        ratios = [f"bertune {precision} to it" for precision in comparison.own]
        table = Table("side", "examples/s", "of the limit", *ratios)
        table.title = f"{comparison.job} {comparison.encoder}: {describe(result['machine'])}"
        for side in [*result["bertune"], *result["peers"]]:
            limit = ""
            if "share_of_limit" in side:
                limit = f"{side['share_of_limit']:.0%} of {side['matrix_rate']['gflops']:.0f} GFLOP/s"
            table.add_row(
                side["side"],
                f"{side['examples_per_second']:.1f}",
                limit,
                *(f"{own['examples_per_second'] / side['examples_per_second']:.2f}" for own in result["bertune"]),
            )
        Console(width=110).print(table)


def measure(comparison: Comparison, isa: str | None) -> dict[str, Any]:
    """All sides in turn. Rates are real tokens a second, as examples of the data's mean length.

    The limit is the rate at which this machine multiplies in bertune's precision, by the fastest route that there is,
    spent on nothing but the products that the answers need (`own.operations_per_sequence`; in training three times).
    """
    job, encoder, folder, variables = comparison.job, comparison.encoder, str(mrpc_folder()), environment(isa)
    own = [
        Worker(f"bertune {one}", ["benchmarks.own", job, encoder, folder, one], variables, measures_at_start=True)
        for one in comparison.own
    ]
    peers = [Worker(peer.name, peer.arguments(job, encoder, folder), variables) for peer in comparison.peers]
    units = {worker.name: comparison.units for worker in [*own, *peers]}
    facts = take_turns([*own, *peers], units, comparison.rounds)
    mean = facts[own[0].name]["mean_tokens"]

    def rates(worker: Worker) -> dict[str, Any]:
        return {
            "side": worker.name,
            "examples_per_second": worker.median("tokens_per_second") / mean,
            "rounds": [report["tokens_per_second"] / mean for report in worker.reports],
        }

    def with_limit(worker: Worker) -> dict[str, Any]:
        found, rate = rates(worker), facts[worker.name]["matrix_rate"]
        limit = 1e9 * rate["gflops"] / facts[worker.name]["operations_per_sequence"]
        return found | {"share_of_limit": found["examples_per_second"] / limit, "matrix_rate": rate}

    return {
        "job": job,
        "encoder": encoder,
        "isa": isa or "native",
        "bertune": [with_limit(worker) for worker in own],
        "peers": [rates(worker) for worker in peers],
        "machine": facts[own[0].name]["machine"],
    }
