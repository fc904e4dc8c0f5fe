"""Several runs, one after the other, and one table of what they came to."""

import dataclasses
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bertune.durations import Clock
from bertune.errors import InputError, counted
from bertune.files.json_files import read_json
from bertune.tables import PlainTable
from bertune.tasks.registry import task_kind
from bertune.training.options import TrainOptions
from bertune.training.run_folder.errors import disk_errors
from bertune.training.run_folder.report import finished
from bertune.training.runs.seeds import FILE
from bertune.training.study.plan import Run
from bertune.training.study.table import Figure, rows_of, table, write_tables
from bertune.training.train import run as train

logger = logging.getLogger(__name__)

_PAIRED = {"mrpc": ("accuracy", "f1"), "qqp": ("accuracy", "f1"), "stsb": ("pearson", "spearman")}
"""GLUE's tasks that have two metrics."""
_WIDTH = 100


@dataclass(frozen=True)
class Study:
    """What several runs came to. figures: of every run and seed.  collapsed: runs whose kept model collapsed."""

    output: Path
    figures: list[Figure]
    collapsed: list[str]

    def table(self) -> PlainTable:
        """For people."""
        runs = len({one.run for one in self.figures})
        return table(f"{self.output}: {counted(runs, 'run')} on validation data", rows_of(self.figures))

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        rows = [
            {"run": row.run, "task": row.task, "metric": row.metric, "mean": row.mean,
             "standard_deviation": row.deviation, "values": list(row.values)}
            for row in rows_of(self.figures)
        ]  # fmt: skip
        return {"output": str(self.output), "table": rows, "collapsed": self.collapsed}


def run_study(runs: Sequence[Run], output: Path, *, resume: bool = False, clock: Clock | None = None) -> Study:
    """Make all runs, each in a folder of its own, and write the tables after each.

    Args:
        runs: to make; each has its own output folder.
        output: of all: table.txt, table.csv, table.tex, figures.csv.
        resume: go on with the runs that lie there; finished ones stay as they are.
        clock: of a limit that those which are still to be made share evenly; None: each has its own options'.

    Raises:
        InputError: bad options or data of a run; what earlier runs came to is kept.
        FaultError: disk or memory gave out.
        Interrupted: by a signal.
    """
    if not resume and (
        there := [run.options.output for run in runs if (Path(run.options.output) / "run.yaml").exists()]
    ):
        raise InputError(f"--output {output}: holds runs already ({there[0]}); name a new folder, or add --resume")
    study = Study(output, [], [])
    for number, run in enumerate(runs, 1):
        logger.info("run %d of %d: %s", number, len(runs), run.name)
        folder = Path(run.options.output)
        goes_on = resume and (folder / "run.yaml").is_file()
        part = None if clock is None else clock.part(len(runs) + 1 - number)
        result = train(dataclasses.replace(run.options, resume=goes_on), run.task_options, clock=part)
        if result.collapse is not None:
            study.collapsed.append(run.name)
        study.figures.extend(_figures(run.name, run.options, folder))
        with disk_errors(output, 0):
            write_tables(output, study.figures, _text(study.table()), f"Validation results of {output.name}.")
    return study


def _figures(name: str, options: TrainOptions, folder: Path) -> list[Figure]:
    """The task's metrics of a run that has ended, of every seed."""
    stored = finished(folder)
    assert stored is not None
    by_seed: Mapping[int, Mapping[str, float]] = {int(stored[1].get("seed") or options.seed): stored[0]}
    if options.seeds is not None:
        by_seed = {int(seed): metrics for seed, metrics in read_json(folder / FILE)["seeds"].items()}
    wanted = _PAIRED.get(options.task, (options.metric or _own_metric(options.task),))
    return [
        Figure(name, options.task, options.encoder, seed, metric, metrics[metric])
        for metric in wanted
        for seed, metrics in by_seed.items()
        if metric in metrics
    ]


def _own_metric(task: str) -> str:
    kind = task_kind(task)
    made = kind(task, kind.Options())
    return str(made.metric)


def _text(shown: PlainTable) -> str:
    stream = io.StringIO()
    Console(file=stream, width=_WIDTH).print(shown)
    return stream.getvalue()
