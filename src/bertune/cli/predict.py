"""`bertune predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertune.cli.using import UseOptions, load_for, parse_for_model
from bertune.errors import InputError
from bertune.prediction.options import BulkOptions

SHOWN = 20


def main(argv: Sequence[str]) -> None:
    """Answer every row of the input, as a stream."""
    about = "Write a model's predictions for files of any size."
    (use, options), task_options = parse_for_model("bertune predict", about, [UseOptions, BulkOptions], argv)
    # After the options: what computes takes a second to import.
    from bertune.prediction import bulk
    from bertune.prediction.answerers import ModelAnswerer
    from bertune.prediction.inputs import input_files

    if options.output_format == "glue":
        _submit(use, options, task_options)
        return
    bulk.check(options)
    with input_files(options.input) as files:
        model = load_for(use, task_options)
        answerer = ModelAnswerer(model, use.batch_size, use.precision)
        if options.output is not None:
            bulk.run(answerer, files, options)
            return
        examples, answers = bulk.first_answers(answerer, files, SHOWN)
    show(("input", "answer", "score"), [model.task.summary(*pair) for pair in zip(examples, answers, strict=True)])


def _submit(use: UseOptions, options: BulkOptions, task_options: dict[str, Any]) -> None:
    """Write the answers as GLUE's server takes them."""
    from bertune.evaluation.glue_submission import write_submission

    if options.output is None or options.output == "-":
        raise InputError("--output-format glue: needs --output FILE, such as MRPC.tsv")
    write_submission(load_for(use, task_options), Path(options.input), Path(options.output))


def show(heads: Sequence[str], rows: Sequence[Any]) -> None:
    """A table of the first answers, for people."""
    from rich.console import Console

    from bertune.tables import plain_table

    Console().print(plain_table(f"the first {len(rows)} answers; --output FILE writes all", tuple(heads), rows))
