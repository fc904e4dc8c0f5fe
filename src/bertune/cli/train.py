"""`bertune train`."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

from bertune.cli.arguments import parse
from bertune.options import option
from bertune.tasks.registry import TASKS, options_of
from bertune.training.options import TrainOptions


@dataclass(frozen=True)
class _First:
    task: str | None = option(None, help="what to train for")


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the metrics as one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Parse the options, the task's own among them, and train."""
    began = time.monotonic()  # a time limit counts the loading of torch too
    prog, about = (
        "bertune train",
        f"Fine-tune an encoder on labelled data. Tasks: {', '.join(TASKS)}, path/to/file.py:Class.",
    )
    name = parse(prog, about, [_First], argv, partial=True).get("task")
    own = [options_of(name)] if name else []
    parsed = parse(prog, about, [TrainOptions, *own, _Extra], argv, undecided=None if name else "--task")
    as_json = parsed.pop("json", False)
    general = {field.name for field in fields(TrainOptions)}

    from bertune.training.train import run

    result = run(
        TrainOptions(**{name: value for name, value in parsed.items() if name in general}),
        {name: value for name, value in parsed.items() if name not in general},
        began=began,
    )
    if as_json:
        print(json.dumps({"output": str(result.output), "steps": result.steps, **result.metrics, **result.more}))
