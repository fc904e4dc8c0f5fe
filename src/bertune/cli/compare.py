"""`bertune compare`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from bertune.cli.arguments import parse
from bertune.options import DEVICES, PRECISIONS, option

if TYPE_CHECKING:
    from bertune.tables import PlainTable


@dataclass(frozen=True)
class CompareOptions:
    """Options of `bertune compare`; the runs are given without a flag, before them."""

    data: str | None = option(None, help="labelled rows (default: the validation data that the runs recorded)")
    metric: str | None = option(None, help="metric to compare (default: the task's own)")
    resamples: int = option(1000, help="resamples of the bootstrap, and permutations")
    seed: int = option(0, help="governs the resamples")
    batch_size: int = option(256, help="largest number of sequences in a batch")
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(None, help="the file of models whose task came from one; its code is run")
    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Compare runs on the same rows."""
    folders = list(takewhile(lambda argument: not argument.startswith("-"), argv))
    about = "Compare the models of RUN RUN …, folders that bertune train wrote, on the same rows."
    parsed = parse("bertune compare RUN RUN …", about, [CompareOptions], argv[len(folders) :])
    as_json, data = parsed.pop("json", False), parsed.pop("data", None)

    from bertune.evaluation.compare import CompareSettings, compare
    from bertune.evaluation.seeds import compare_seeds, have_seeds

    found = compare(folders, data, CompareSettings(**parsed))
    if len(folders) > 1 and have_seeds(folders):
        found["over_seeds"] = compare_seeds(folders, found["metric"])
    if as_json:
        print(json.dumps(found))
        return
    from rich.console import Console

    console = Console()
    console.print(_runs(found))
    console.print(_pairs(found))
    if "over_seeds" in found:
        console.print(_over_seeds(found["over_seeds"]))


def _runs(found: Mapping[str, Any]) -> "PlainTable":
    from bertune.tables import plain_table

    title = f"{found['metric']} on {found['rows']} rows of {found['data']}"
    rows = ((run["run"], f"{run['value']:.4f}", f"{run['low']:.4f} to {run['high']:.4f}") for run in found["runs"])
    return plain_table(title, ("run", found["metric"], "95 % interval"), rows)


def _pairs(found: Mapping[str, Any]) -> "PlainTable":
    from bertune.tables import plain_table

    title = "paired differences; p: probability of one as large where there is none"
    tests = {"p_bootstrap": "p bootstrap", "p_permutation": "p permutation", "p_mcnemar": "p McNemar"}
    shown = {name: head for name, head in tests.items() if any(name in pair for pair in found["pairs"])}
    rows = (
        (
            pair["first"],
            pair["second"],
            f"{pair['difference']:+.4f}",
            f"{pair['low']:+.4f} to {pair['high']:+.4f}",
            *(f"{pair[name]:.3f}" if name in pair else "" for name in shown),
        )
        for pair in found["pairs"]
    )
    return plain_table(title, ("first", "second", "second - first", "95 % interval", *shown.values()), rows, keys=2)


def _over_seeds(found: Mapping[str, Any]) -> "PlainTable":
    from bertune.tables import plain_table

    shown = (f"{run['run']} {run['mean']:.4f} ± {run['standard_deviation']:.4f}" for run in found["runs"])
    title = f"{found['metric']} over seeds, on validation data: {'; '.join(shown)}"
    rows = (
        (
            pair["first"],
            pair["second"],
            f"{pair['difference']:+.4f}",
            f"{pair['low']:+.4f} to {pair['high']:+.4f}",
            f"{pair['p_welch']:.3f}",
            f"{pair['p_permutation']:.3f}",
        )
        for pair in found["pairs"]
    )
    return plain_table(
        title, ("first", "second", "second - first", "95 % interval", "p Welch", "p permutation"), rows, keys=2
    )
