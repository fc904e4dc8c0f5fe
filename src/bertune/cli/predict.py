"""`bertune predict`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.cli.using import UseOptions, load_for, parse_for_model
from bertune.errors import InputError
from bertune.files.inputs import seekable
from bertune.files.outputs import check_output, open_output
from bertune.options import option

if TYPE_CHECKING:
    from bertune.model.use import Model

SHOWN = 20


@dataclass(frozen=True)
class PredictOptions:
    """Options of `bertune predict` alone."""

    input: str = option(help="data to answer, a file, a pipe or - for standard input; labels are not needed")
    output: str | None = option(
        None,
        help="file, pipe or device for the answers, one JSON object a line in input order; - for standard output; "
        "left out: a table of the first ones",
    )


def main(argv: Sequence[str]) -> None:
    """Answer every row of a file, as a stream."""
    about = "A model's answers for a file."
    (use, options), task_options = parse_for_model("bertune predict", about, [UseOptions, PredictOptions], argv)
    if options.input != "-" and not Path(options.input).exists():
        raise InputError(f"--input {options.input}: no such file")
    if options.output is not None:
        check_output(options.output)
    model = load_for(use, task_options)
    with seekable(options.input, "--input") as path:
        source = model.task.read(path, labelled=False)
        if options.output is None:
            _show(model, list(islice(source, SHOWN)))
            return
        with open_output(options.output) as stream:
            for answer in model.predict_examples(source, batch_size=use.batch_size):
                stream.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")


def _show(model: "Model", examples: list[Any]) -> None:
    """A table of the first answers, for people."""
    from rich.console import Console

    from bertune.tables import plain_table

    title = f"the first {len(examples)} answers; --output FILE writes all"
    answers = zip(examples, model.predict_examples(examples), strict=True)
    rows = [model.task.summary(example, answer) for example, answer in answers]
    Console().print(plain_table(title, ("input", "answer", "score"), rows))
