"""`bertune train` with several tasks, or a file of runs: one table over all."""

import dataclasses
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from bertune.cli.arguments import parse
from bertune.durations import Clock, seconds_of
from bertune.errors import InputError
from bertune.options import option
from bertune.training.options import TrainOptions

if TYPE_CHECKING:
    from bertune.training.study.plan import Run


@dataclass(frozen=True)
class _Study:
    runs: str | None = option(None, help="YAML file of runs")
    glue_submission: bool = option(
        False, help="also write the prediction files for GLUE's server, from each task's test file"
    )
    json: bool = option(False, help="print the table as one JSON object on stdout")


def _optional(tree: type[Any]) -> type[Any]:
    """The same options, none of them required: a file of runs may have them."""
    hints = get_type_hints(tree)
    made = [(one.name, hints[one.name], option(None, **one.metadata)) for one in dataclasses.fields(tree)]
    return dataclasses.make_dataclass(tree.__name__, made, namespace={"checks_limits": True})


def _submit(runs: "Sequence[Run]", output: Path) -> None:
    """Write GLUE's files of predictions for the runs whose data lies beside a test file."""
    from bertune.evaluation.glue_submission import tests_of, write_submission
    from bertune.model.use import load

    for run in runs:
        tests = tests_of(run.options.task, Path(str(run.options.train)).parent)
        if not tests:
            print(f"{run.name}: no GLUE test file beside {run.options.train}", file=sys.stderr)
            continue
        output.mkdir(parents=True, exist_ok=True)
        model = load(run.options.output, precision=run.options.precision, device=run.options.device)
        for data, name in tests:
            write_submission(model, data, output / name)


def main(argv: Sequence[str], task: str | None, began: float) -> int:
    """Make all runs. Returns the exit status: 1 where a kept model collapsed.

    began: of `time.monotonic`, when a time limit begins that is given for all of them.
    """
    from bertune.training.study.plan import plan, shared_options

    own = shared_options((task or "").split(","))
    given = parse("bertune train", "Several runs, one table.", [_optional(TrainOptions), *own, _Study], argv)
    as_json, file, submit = given.pop("json", False), given.pop("runs", None), given.pop("glue_submission", False)
    resume = given.pop("resume", False)
    if file is not None and task is not None:
        raise InputError("--runs, --task: the file of runs names their tasks; leave one out")

    from bertune.progress import console
    from bertune.training.study.run import run_study

    runs = plan(given, None if file is None else Path(file))
    limit = given.get("time_limit")
    clock = None if limit is None else Clock(seconds_of(str(limit)), began)
    study = run_study(runs, Path(given["output"]), resume=resume, clock=clock)
    console.print(study.table())
    console.print(
        f"written: {study.output}/table.txt, table.csv, table.tex, figures.csv", markup=False, highlight=False
    )
    if submit:
        _submit(runs, study.output / "submission")
    if as_json:
        print(json.dumps(study.to_json()))
    for name in study.collapsed:
        print(f"error: {name}: its model collapsed", file=sys.stderr)
    return 1 if study.collapsed else 0
