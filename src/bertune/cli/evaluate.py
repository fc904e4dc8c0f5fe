"""`bertune evaluate`."""

import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bertune.cli.using import UseOptions, load_for, parse_for_model
from bertune.data.rows import check_file
from bertune.errors import InputError, Problems, counted
from bertune.files.inputs import seekable
from bertune.options import option

if TYPE_CHECKING:
    from bertune.model.use import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of `bertune evaluate` alone."""

    data: str = option(help="labelled data: a file, a pipe or - for standard input")
    feature_cache: bool = option(True, help="cache the tokens of large files for the next run")
    json: bool = option(False, help="print one JSON object on stdout")
    require: str | None = option(
        None,
        help="end with status 3 if a metric misses its target, such as accuracy=0.85,f1=0.8 (a minimum; for "
        "losses and errors a maximum)",
    )


MISSED = 3
"""The exit status where a figure that --require names is missed."""


def main(argv: Sequence[str]) -> int:
    """Evaluate a model on a file and print its metrics. Returns: the exit status, 0 or MISSED."""
    about = "Compute the metrics of a model on labelled data."
    (use, options), task_options = parse_for_model("bertune evaluate", about, [UseOptions, EvaluateOptions], argv)
    _check_exists(options.data)
    required = _required(options.require)
    model = load_for(use, task_options)
    with seekable(options.data, "--data") as path:
        _warn_of_training_rows(model, path)
        feature_cache = options.feature_cache and path == Path(options.data)
        found = model.evaluation(path, batch_size=use.batch_size, feature_cache=feature_cache)
    figures = {**found.metrics, **found.settings}
    if options.json:
        print(json.dumps(figures))
    else:
        from rich.console import Console

        from bertune.tables import for_people, table_of
        from bertune.tasks.protocol import metric_in_words

        named = {metric_in_words(model.task, name): value for name, value in for_people(figures).items()}
        Console().print(table_of(f"{use.model} on {options.data}", named))
    missed = _missed(required, found.metrics)
    for line in missed:
        print(line, file=sys.stderr)
    return MISSED if missed else 0


def _required(text: str | None) -> dict[str, float]:
    """The figures that --require names. Raises InputError: something else stands there."""
    required: dict[str, float] = {}
    problems = Problems()
    for part in (text or "").split(",") if text is not None else ():
        name, _, number = (side.strip() for side in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not name or not math.isfinite(value):
            problems.add(f"--require {part.strip()!r}: give figures as NAME=NUMBER, such as accuracy=0.85,f1=0.8")
        required[name] = value
    problems.raise_if_any()
    return required


def _missed(required: Mapping[str, float], found: Mapping[str, float]) -> list[str]:
    """A line for each figure that is worse than required.

    Raises:
        InputError: a figure that this model does not have.
    """
    unknown = [name for name in required if name not in found]
    if unknown:
        raise InputError(f"--require {', '.join(unknown)}: no such figure; there are {', '.join(found)}")
    from bertune.tasks.protocol import lower_is_better

    lines = []
    for name, bound in required.items():
        value, at_most = found[name], lower_is_better(name)
        if not (value <= bound if at_most else value >= bound):  # NaN misses too
            lines.append(f"--require {name}: {value:.4f} is {'more' if at_most else 'less'} than {bound:g}")
    return lines


def _warn_of_training_rows(model: "Model", path: Path) -> None:
    """Tell where the rows are those of the training: on them any model looks better than it is."""
    from bertune.data.contents import content_sha256

    recorded = (model.record.get("data") or {}).get("train") or {}
    trained = {one.get("sha256"): one.get("rows") for one in recorded.get("files") or [recorded]}
    rows = trained.get(content_sha256(path))
    if rows:
        held = recorded.get("held_out")
        better = "metrics.json has the figures of the rows that were held out" if held else "evaluate other rows"
        logger.warning(
            "%s: the model was trained on %s of this file, so these figures are too good; %s",
            path, counted(rows, "row"), better,
        )  # fmt: skip


def _check_exists(data: str) -> None:
    """Raises InputError where a file does not exist: before the model is loaded, which takes longer."""
    if data == "-" or Path(data).exists():
        return
    try:
        check_file(Path(data))
    except InputError as error:
        raise InputError(f"--data {error}") from None
