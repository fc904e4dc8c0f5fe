"""`bertune check`."""

import importlib.util
import itertools
import json
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.cli.arguments import parse
from bertune.errors import InputError, Problems
from bertune.options import option
from bertune.tasks.registry import options_of

if TYPE_CHECKING:
    from bertune.checking.doctor import Text
    from bertune.tasks.protocol import Task


@dataclass(frozen=True)
class _First:
    task: str | None = option(None, help="what to train for")


@dataclass(frozen=True)
class CheckOptions:
    """Options of `bertune check`."""

    task: str = option(help="task that the data is for, such as text-classification")
    train: str | list[str] = option(help="training data: files, a folder, or a pattern")  # noqa: RUF009
    validation: str | list[str] | None = option(None, help="validation data, in the same forms")  # noqa: RUF009
    encoder: str | None = option(
        None, help="encoder whose vocabulary counts the tokens (default: minilm, if it is installed)"
    )
    do_lower_case: bool | None = option(None, help="lower-case the text or not (default: as the encoder declares)")
    max_seq_length: int | None = option(None, help="longest sequence in tokens (default: the task's)")
    apply: str | None = option(
        None,
        help="suspects.csv of a report, with labels that you corrected: write the corrected training data to --output",
    )
    output: str | None = option(None, help="with --apply: the new file, .csv, .tsv or .jsonl", value="FILE")
    strict: bool = option(False, help="exit with status 1 when there are errors or warnings")
    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> int:
    """Look at data before training. Returns the exit status."""
    prog, about = "bertune check", "Find problems in data before training."
    name = parse(prog, about, [_First], argv, partial=True).get("task")
    own = [options_of(name)] if name else []
    parsed = parse(prog, about, [CheckOptions, *own], argv)
    general = {field.name for field in fields(CheckOptions)}
    options = CheckOptions(**{name: value for name, value in parsed.items() if name in general})

    from bertune.tasks.registry import new_task

    task = new_task(options.task, {name: value for name, value in parsed.items() if name not in general})
    length = options.max_seq_length or task.defaults.max_seq_length
    if length < 3:
        raise InputError(f"--max-seq-length {length}: must be at least 3")

    from bertune.checking.doctor import check
    from bertune.data.sources import data_paths

    if options.apply is not None:
        return _apply(options, task, data_paths(options.train, "--train"))
    paths, absent = dict[str, list[Path]](), Problems()
    for role, named in {"train": options.train, "validation": options.validation}.items():
        try:
            paths |= {} if named is None else {role: data_paths(named, f"--{role}")}
        except InputError as error:
            absent.add(str(error))
    if absent:  # what is wrong with the other file is told with it
        for one in itertools.chain.from_iterable(paths.values()):
            try:
                deque(task.read(one, labelled=True), maxlen=0)
            except InputError as error:
                absent.add(str(error))
    absent.raise_if_any()
    report = check(task, paths, _text(options.encoder, options.do_lower_case), length)
    if options.json:
        from bertune.checking.report import to_json

        print(json.dumps(to_json(report)))
    else:
        from rich.console import Console

        from bertune.checking.report import show

        show(report, Console())
    return 1 if options.strict and not report.fine else 0


def _apply(options: CheckOptions, task: "Task[Any]", files: Sequence[Path]) -> int:
    """Write the data with corrected labels."""
    from bertune.checking.corrections import apply_corrections

    if len(files) != 1:
        raise InputError(f"--apply: corrects one file at a time; --train names {len(files)}")
    if options.output is None:
        raise InputError("--apply: name the new file with --output")
    done = apply_corrections(task, files[0], Path(str(options.apply)), Path(options.output))
    if options.json:
        print(json.dumps({**vars(done), "output": str(done.output)}))
    else:
        print(f"{done.output}: {done.rows} rows, {done.changed} labels corrected, {done.confirmed} confirmed")
    return 0


def _text(source: str | None, do_lower_case: bool | None) -> "Text | None":
    """The named encoder's tokenizer, or minilm's; None where that is not installed."""
    from bertune.checking.doctor import Text
    from bertune.checkpoints.source import MINILM_PACKAGE, SourceOptions, open_checkpoint

    if source is None and importlib.util.find_spec(MINILM_PACKAGE) is None:
        return None
    source = source or "minilm"
    with open_checkpoint(source, options=SourceOptions(do_lower_case=do_lower_case)) as checkpoint:
        return Text(source, checkpoint.tokenizer, checkpoint.config.max_position_embeddings)
