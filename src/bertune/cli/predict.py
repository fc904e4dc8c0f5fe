"""`bertune predict`."""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from bertune.cli.using import UseOptions, load_for, parse_for_model
from bertune.errors import InputError
from bertune.options import option

if TYPE_CHECKING:
    from bertune.model.use import Model

SHOWN = 20


@dataclass(frozen=True)
class PredictOptions:
    """Options of `bertune predict` alone."""

    input: str = option(help="data to answer; labels are not needed")
    output: str | None = option(
        None, help="file for the answers, one JSON object a line in input order; - for stdout; left out: a table"
    )


def main(argv: Sequence[str]) -> None:
    """Answer every row of a file, as a stream."""
    about = "A model's answers for a file."
    (use, options), task_options = parse_for_model("bertune predict", about, [UseOptions, PredictOptions], argv)
    if not Path(options.input).is_file():
        raise InputError(f"--input {options.input}: no such file")
    model = load_for(use, task_options)
    source = model.task.read(Path(options.input), labelled=False)
    if options.output is None:
        _show(model, list(islice(source, SHOWN)))
        return
    answers = model.predict_examples(source, batch_size=use.batch_size)
    if options.output == "-":
        _write(answers, sys.stdout)
        return
    target = Path(options.output)
    if target.is_dir():
        raise InputError(f"--output {target}: is a folder; name a file in it")
    if not target.parent.is_dir():
        raise InputError(f"--output {target}: there is no folder {target.parent}")
    beside = target.with_name(target.name + ".writing")
    try:
        with beside.open("w", encoding="utf-8") as file:
            _write(answers, file)
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)


def _show(model: "Model", examples: list[Any]) -> None:
    """A table of the first answers, for people."""
    from rich.console import Console
    from rich.table import Table

    table = Table("input", "answer", "score", title=f"the first {len(examples)} answers; --output FILE writes all")
    for example, answer in zip(examples, model.predict_examples(examples), strict=True):
        table.add_row(*model.task.summary(example, answer))
    Console().print(table)


def _write(answers: Iterable[dict[str, Any]], file: TextIO) -> None:
    for answer in answers:
        file.write(json.dumps(answer, ensure_ascii=False) + "\n")
