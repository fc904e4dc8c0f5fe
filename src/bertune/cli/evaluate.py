"""`bertune evaluate`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertune.cli.using import UseOptions, load_for, parse_for_model
from bertune.data.rows import check_file
from bertune.errors import InputError
from bertune.files.inputs import seekable
from bertune.options import option


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `bertune evaluate` alone."""

    data: str = option(help="labelled data: a file, a pipe or - for standard input")
    feature_cache: bool = option(True, help="keep the tokens of large files for the next time")
    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Evaluate a model on a file and print its metrics."""
    about = "Metrics of a model on labelled data."
    (use, options), task_options = parse_for_model("bertune evaluate", about, [UseOptions, EvaluateOptions], argv)
    _require(options.data)
    model = load_for(use, task_options)
    with seekable(options.data, "--data") as path:
        feature_cache = options.feature_cache and path == Path(options.data)
        found = model.evaluation(path, batch_size=use.batch_size, feature_cache=feature_cache)
    figures = {**found.metrics, **found.settings}
    if options.json:
        print(json.dumps(figures))
        return
    from rich.console import Console

    from bertune.tables import for_people, table_of
    from bertune.tasks.protocol import metric_in_words

    named = {metric_in_words(model.task, name): value for name, value in for_people(figures).items()}
    Console().print(table_of(f"{use.model} on {options.data}", named))


def _require(data: str) -> None:
    """Raises InputError where a file does not exist: before the model is loaded, which takes longer."""
    if data == "-" or Path(data).exists():
        return
    try:
        check_file(Path(data))
    except InputError as error:
        raise InputError(f"--data: {error}") from None
