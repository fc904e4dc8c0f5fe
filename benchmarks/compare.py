"""What finetune.py and predict.py share: one comparison of bertune with its peer, as a table row and a JSON line."""

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, save_result
from benchmarks.workers import Worker, take_turns
from benchmarks.workloads import mrpc_folder


@dataclass(frozen=True)
class Comparison:
    """job: train or predict.  own: our precision.  peer: its padding and precision.  units: steps or batches a turn."""

    job: str
    encoder: str
    own: str
    peer: tuple[str, str]
    own_units: int
    peer_units: int
    rounds: int = 3


def run(comparisons: list[Comparison]) -> None:
    """Measure all, print the table, keep the JSON lines."""
    table = Table("job", "encoder", "bertune", "examples/s", "peer", "examples/s", "ratio", "of the limit")
    for comparison in comparisons:
        result = measure(comparison)
        save_result(comparison.job, result)
        table.add_row(
            comparison.job,
            comparison.encoder,
            comparison.own,
            f"{result['bertune_examples_per_second']:.1f}",
            " ".join(comparison.peer),
            f"{result['peer_examples_per_second']:.1f}",
            f"{result['ratio']:.2f}",
            f"{result['share_of_limit']:.0%}",
        )
    Console(width=110).print(table)


def measure(comparison: Comparison) -> dict[str, Any]:
    """Both sides in turn. Rates are real tokens a second, given as examples of the data's mean length.

    The limit: (6 in training, 2 in prediction) x weights of the encoder's layers x real tokens, at the bfloat16 matrix
    rate that bertune's process measured.
    """
    folder = str(mrpc_folder())
    own = Worker("bertune", ["benchmarks.own", comparison.job, comparison.encoder, folder, comparison.own])
    peer = Worker("peer", ["benchmarks.peer", comparison.job, comparison.encoder, folder, *comparison.peer])
    units = {"bertune": comparison.own_units, "peer": comparison.peer_units}
    facts = take_turns([own, peer], units, comparison.rounds)["bertune"]
    mean = facts["mean_tokens"]
    mine, theirs = own.median("tokens_per_second"), peer.median("tokens_per_second")
    work = (6 if comparison.job == "train" else 2) * facts["layer_weights"]
    return {
        "encoder": comparison.encoder,
        "bertune": comparison.own,
        "peer": " ".join(comparison.peer),
        "bertune_examples_per_second": mine / mean,
        "peer_examples_per_second": theirs / mean,
        "ratio": mine / theirs,
        "share_of_limit": work * mine / facts["matrix_rate"],
        "matrix_rate_gflops": facts["matrix_rate"] / 1e9,
        "bertune_rounds": [report["tokens_per_second"] / mean for report in own.reports],
        "peer_rounds": [report["tokens_per_second"] / mean for report in peer.reports],
        "machine": machine(),
    }
