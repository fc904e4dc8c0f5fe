"""`python -m bertune.google.run_classifier_with_tfhub`: run_classifier on an encoder from a TF-Hub module."""

import dataclasses
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.checkpoints.source import SourceError, open_checkpoint
from bertune.errors import InputError, Problems
from bertune.google.flags import flags_of, parse_flags
from bertune.google.initial_checkpoint import InitialCheckpoint, check_positions
from bertune.google.run_classifier import TaskFlags, classify, read_job
from bertune.google.running import EpochFlags, RunFlags, TrainFlags, run_program, set_up
from bertune.options import option

logger = logging.getLogger("bertune.google.run_classifier_with_tfhub")  # also when run by `python -m`

_TASKS = ("cola", "mnli", "mrpc")


@dataclass(frozen=True)
class HubFlags:
    """The program's own flag."""

    bert_hub_module_handle: str = option(help="TF-Hub module: a folder, a .tar.gz, or a handle")


@dataclass(frozen=True)
class IgnoredFlags:
    """run_classifier's flags that a module's own files stand for."""

    bert_config_file: str | None = option(None, help="accepted, not used: the module brings its own")
    vocab_file: str | None = option(None, help="accepted, not used: the module brings its own")
    init_checkpoint: str | None = option(None, help="accepted, not used: the weights are the module's")
    do_lower_case: bool = option(True, help="accepted, not used: the module states it")


def program(argv: Sequence[str]) -> None:
    """The command's work, from its arguments."""
    trees = [HubFlags, TaskFlags, IgnoredFlags, TrainFlags, EpochFlags, RunFlags]
    flags = parse_flags("run_classifier_with_tfhub", trees, argv)
    handle, own, run = flags.of(HubFlags).bert_hub_module_handle, flags.of(TaskFlags), flags.of(RunFlags)
    ignored = [f"--{name}" for name in flags_of([IgnoredFlags]) if name in flags.provided]
    if ignored:
        logger.warning("%s: not used, as in the original; the module brings its own", ", ".join(ignored))
    problems = Problems()
    if run.strict_original and own.do_predict and not (own.do_train or own.do_eval):
        problems.add("--do_predict: the original refuses it alone; add --do_eval or leave --strict_original out")
    if run.strict_original and own.task_name.lower() not in _TASKS:
        problems.add(f"--task_name={own.task_name}: the original knows {', '.join(_TASKS)} here")
    problems.raise_if_any()
    job = read_job(own, flags.of(TrainFlags), flags.of(EpochFlags), flags.provided, strict=run.strict_original)
    runtime = set_up(run)
    start = open_module(handle)
    check_positions(own.max_seq_length, start.config)
    classify(dataclasses.replace(job, recorded=("test",)), start, runtime)


def open_module(handle: str) -> InitialCheckpoint:
    """An encoder with the vocabulary and casing that its module tells.

    Raises:
        InputError: no module there, or one that cannot be read.
    """
    try:
        with open_checkpoint(handle) as found:
            is_google = found.dialect != "Hugging Face"
            return InitialCheckpoint(
                handle, found.config, found.tokenizer, found.tensors, found.names, found.settings, is_google
            )
    except InputError as error:
        text = error.text if isinstance(error, SourceError) else str(error)
        raise InputError(f"--bert_hub_module_handle: {text}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; the exit status."""
    return run_program(program, argv)


if __name__ == "__main__":
    sys.exit(main())
