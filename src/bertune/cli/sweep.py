"""`bertune sweep`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields

from bertune.cli.arguments import parse
from bertune.cli.train import defaults_for_help
from bertune.options import option
from bertune.sweep.options import SweepOptions
from bertune.tasks.registry import options_of


@dataclass(frozen=True)
class _First:
    task: str | None = option(None, help="what to train for")


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the result as one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Parse the options, the task's own among them, and sweep."""
    prog = "bertune sweep"
    about = "Search for hyper-parameters within a time limit, and train the best again with new seeds."
    name = parse(prog, about, [_First], argv, partial=True).get("task")
    own = [options_of(name)] if name else []
    given = parse(prog, about, [SweepOptions, *own, _Extra], argv, undecided=None if name else "--task",
                  defaults=defaults_for_help(name, argv))  # fmt: skip
    as_json = given.pop("json", False)
    general = {field.name for field in fields(SweepOptions)}

    from bertune.progress import console
    from bertune.sweep.sweep import run

    result = run(
        SweepOptions(**{name: value for name, value in given.items() if name in general}),
        {name: value for name, value in given.items() if name not in general},
    )
    for table in result.tables():
        console.print(table)
    if as_json:
        print(json.dumps(result.to_json()))
