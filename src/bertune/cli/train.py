"""`bertune train`."""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.options import option
from bertune.tasks.registry import TASKS, new_task, options_of
from bertune.training.options import AdaptOptions, TrainOptions


@dataclass(frozen=True)
class _First:
    task: str | None = option(None, help="what to train for")
    runs: str | None = option(None, help="YAML file of runs")


@dataclass(frozen=True)
class _Extra:
    json: bool = option(False, help="print the metrics as one JSON object on stdout")
    runs: str | None = option(
        None, help="YAML file of several runs, reported in one table, as --task A,B,C is (docs/many-runs.md)"
    )
    glue_submission: bool = option(False, help="with several tasks: also write the prediction files for GLUE's server")


def defaults_for_help(task: str | None, argv: Sequence[str]) -> dict[str, object]:
    """The defaults that a task has for options of every training, where `--help` is to show them."""
    if task is None or not {"-h", "--help"} & set(argv):
        return {}
    shown = TASKS.get(task) or new_task(task)
    return {**asdict(shown.defaults), "metric": shown.metric}


def main(argv: Sequence[str]) -> int:
    """Parse the options, the task's own among them, and train. Returns the exit status: 1 where the model collapsed."""
    began = time.monotonic()  # a time limit counts the loading of torch too
    prog, about = (
        "bertune train",
        f"Fine-tune an encoder on labelled data.\n\nTasks: {', '.join(TASKS)}, path/to/file.py:Class. With --task NAME "
        "the options of that task are listed too.",
    )
    first = parse(prog, about, [_First], argv, partial=True)
    name = first.get("task")
    if not {"-h", "--help"} & set(argv) and ("runs" in first or (name and "," in name)):
        from bertune.cli.study import main as several

        return several(argv, name, began)
    name = name.partition(",")[0] if name else None
    own = [options_of(name)] if name else []
    undecided, defaults = None if name else "--task", defaults_for_help(name, argv)
    parsed = parse(
        prog, about, [TrainOptions, AdaptOptions, *own, _Extra], argv, undecided=undecided, defaults=defaults
    )
    as_json = parsed.pop("json", False)
    if parsed.pop("glue_submission", False):
        raise InputError("--glue-submission: is for several tasks (--task mrpc,rte) or --runs; of one model: bertune "
                         "predict --output-format glue")  # fmt: skip
    general = {field.name for field in fields(TrainOptions)}

    from bertune.training.presets import with_preset
    from bertune.training.train import run

    adaptation = AdaptOptions(**{field.name: parsed.pop(field.name) for field in fields(AdaptOptions)
                                 if field.name in parsed})  # fmt: skip
    own_values = {name: value for name, value in parsed.items() if name not in general}
    values = with_preset({name: value for name, value in parsed.items() if name in general}, own_values)
    more: dict[str, Any] = {}
    if adaptation.adapt:
        from bertune.adaptation import run as adapt

        made = adapt(adaptation, TrainOptions(**values), own_values, began=began)
        result, more = made.result, {"adaptation": made.to_json()}
    else:
        result = run(TrainOptions(**values), own_values, began=began)
    if as_json:
        print(
            json.dumps({"output": str(result.output), "steps": result.steps, **result.metrics, **result.more, **more})
        )
    if result.collapse is None:
        return 0
    print(f"error: {result.output}: the model collapsed ({result.collapse})", file=sys.stderr)
    return 1
