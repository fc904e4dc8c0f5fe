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
    resamples: int = option(1000, help="number of bootstrap resamples, and of permutations")
    seed: int = option(0, help="seed of the resampling")
    batch_size: int = option(256, help="largest number of sequences in a batch")
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(
        None, help="Python file of the models' task, if they were trained with --task FILE.py:Class; its code is run"
    )
    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Compare runs on the same rows."""
    folders = list(takewhile(lambda argument: not argument.startswith("-"), argv))
    about = "Compare models on the same rows: confidence intervals, and tests of their differences."
    runs = ("RUN RUN …", "two or more folders that bertune train wrote")
    parsed = parse("bertune compare", about, [CompareOptions], argv[len(folders) :], leading=runs)
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
    tests = {"p_bootstrap": "p bootstrap", "p_permutation": "p permutation", "p_mcnemar": "p McNemar"}
    return _differences("differences; p: how likely one as large is by chance alone", found["pairs"], tests)


def _over_seeds(found: Mapping[str, Any]) -> "PlainTable":
    shown = (f"{run['run']} {run['mean']:.4f} ± {run['standard_deviation']:.4f}" for run in found["runs"])
    title = f"{found['metric']} over seeds, on validation data: {'; '.join(shown)}"
    return _differences(title, found["pairs"], {"p_welch": "p Welch", "p_permutation": "p permutation"})


def _differences(title: str, pairs: Sequence[Mapping[str, Any]], tests: Mapping[str, str]) -> "PlainTable":
    """A row for every pair of runs; the only pair of two runs as a list, which is never too wide."""
    from bertune.tables import plain_table, table_of

    shown = {name: head for name, head in tests.items() if any(name in pair for pair in pairs)}
    rows = [
        {
            "second - first": f"{pair['difference']:+.4f}",
            "95 % interval": f"{pair['low']:+.4f} to {pair['high']:+.4f}",
            **{head: f"{pair[name]:.3f}" if name in pair else "" for name, head in shown.items()},
        }
        for pair in pairs
    ]
    if len(pairs) == 1:
        runs = {"first": pairs[0]["first"], "second": pairs[0]["second"]}
        return table_of(title, {**runs, **{head: cell for head, cell in rows[0].items() if cell}})
    heads = ("first", "second", *rows[0]) if rows else ("first", "second")
    cells = ((pair["first"], pair["second"], *row.values()) for pair, row in zip(pairs, rows, strict=True))
    return plain_table(title, heads, cells, keys=2)
