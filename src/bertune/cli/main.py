"""`bertune VERB …`: finds the verb, imports only what it needs, turns errors into messages and exit statuses."""

import contextlib
import gc
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence

import bertune
from bertune.errors import FaultError, InputError, Interrupted

GROUPS = {
    "data": {
        "samples": "copy sample data for every task into a folder",
        "check": "find problems in data before training",
    },
    "training": {
        "train": "fine-tune an encoder on labelled data",
        "sweep": "search for hyper-parameters within a time limit",
        "distill": "train a small model from the outputs of a large one",
        "pretrain": "continue pre-training an encoder on text, or start from scratch",
        "vocab": "train a WordPiece vocabulary on text",
    },
    "results": {
        "evaluate": "compute metrics of a model on labelled data",
        "report": "describe a model's results on one page",
        "compare": "compare models on the same rows, with intervals and tests",
        "explain": "show which words count for and against an answer",
    },
    "use": {
        "predict": "write a model's predictions for a file",
        "embed": "write a vector for every text, for search and clustering",
        "serve": "serve models over HTTP, with a page to try them",
        "export": "export a model to ONNX, compared with PyTorch",
        "pack": "pack a model into one file to hand on",
    },
    "encoders": {
        "inspect": "show what a checkpoint or model folder contains",
        "convert": "convert any readable encoder to a Hugging Face folder",
    },
    "shell": {"completion": "print a completion script for bash, zsh or fish"},
}
VERBS = {verb: about for group in GROUPS.values() for verb, about in group.items()}
_FIRST = """To begin:
  bertune samples samples
  bertune train --task text-classification --encoder minilm \\
      --train samples/intents/train.csv --output out/intents \\
      --epochs 12 --learning-rate 1e-4 --batch-size 16
  bertune predict --model out/intents --input samples/intents/to_predict.csv"""

_COLLECT_AFTER = 50_000
"""Objects made between two searches for garbage: with Python's 700, searches are a tenth of PyTorch's import time."""

SHARED = ("train", "pretrain", "sweep", "evaluate", "predict", "embed")
"""Verbs whose work the processes share that torchrun started."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 done, 2 bad input or usage, 1 anything else.

    argv: None: those of the process, which is then a process of ours.
    """
    status = _run(argv)
    if argv is None:
        _end_despite_trackers(status)
    return status


def _end_despite_trackers(status: int) -> None:
    """End at once where a tracker hangs: what it does when a process ends may hang too."""
    tracking = sys.modules.get("bertune.training.tracking")
    if tracking is not None and tracking.left_to_themselves():
        _drop_output()
        sys.stderr.flush()
        os._exit(status)


def _run(argv: Sequence[str] | None) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a console's encoding lacks is shown as an escape
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["help"] and len(arguments) > 1:
        arguments = [*arguments[1:], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        _print(_help())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        _print(f"bertune {bertune.__version__}")
        return 0
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise InputError(f"bertune: no command {verb!r}{_near(verb)}; known: {', '.join(VERBS)}")
        from bertune.cli.logs import start_logging

        gc.set_threshold(_COLLECT_AFTER, 20, 20)
        start_logging()
        from bertune.argument_names import command_line

        with command_line(), _among_ranks(verb, ours=argv is None):
            status: int | None = importlib.import_module(f"bertune.cli.{verb}").main(rest)
            sys.stdout.flush()
    except InputError as error:
        _tell(f"error: {error}")
        return 2
    except FaultError as error:
        _drop_output()
        _tell(f"error: {error}")
        return 1
    except BrokenPipeError:  # nobody reads on
        _drop_output()
        return 1
    except OSError as error:
        from bertune.files.atomic_write import is_disk_fault

        if not is_disk_fault(error):
            raise
        _drop_output()
        print(f"error: {error.filename or 'standard output'}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except Interrupted as error:
        _tell(str(error))
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status or 0


def _print(text: str) -> None:
    """Print, to `head` too, which stops reading when it has enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        _drop_output()


@contextlib.contextmanager
def _among_ranks(verb: str, *, ours: bool) -> Iterator[None]:
    """Inside, this process works together with those that torchrun started with it; a signal to one stops all.

    ours: whether the process ends with the command.

    Raises:
        InputError: a verb that they cannot share.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield
        return
    from bertune.distributed.stopping import interruptible, status_stands
    from bertune.distributed.world import is_launched, leave, start

    if verb not in SHARED:
        if is_launched():
            raise InputError(f"bertune {verb}: computes in one process; start it without torchrun")
        yield
        return
    start()
    with status_stands(ours=ours), interruptible(lambda: ""):
        yield
        leave()


def _tell(message: str) -> None:
    """Show an error; of several ranks that fail together one does."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from bertune.distributed.world import is_first_to_tell

        if not is_first_to_tell():
            return
    print(message, file=sys.stderr, flush=True)


def _drop_output() -> None:
    """Where standard output can no longer be written, let the interpreter not fail again when it flushes at its end."""
    try:
        sys.stdout.flush()
        return
    except (OSError, ValueError):
        pass
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # a stream without a descriptor, as in tests
        return


def _near(verb: str) -> str:
    import difflib

    near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.7)
    return f"; did you mean {near[0]}?" if near else ""


def _help() -> str:
    lines = [f"bertune {bertune.__version__}: fine-tune BERT encoders", "", "usage: bertune COMMAND [OPTIONS]", ""]
    for heading, verbs in GROUPS.items():
        lines += [f"{heading}:", *(f"  {verb:<12}{text}" for verb, text in verbs.items()), ""]
    return "\n".join([*lines, _FIRST, "", "bertune COMMAND --help lists a command's options."])


if __name__ == "__main__":
    sys.exit(main())
