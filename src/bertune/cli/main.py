"""`bertune VERB …`: finds the verb, imports only what it needs, turns errors into messages and exit statuses."""

import importlib
import io
import os
import sys
from collections.abc import Sequence

import bertune
from bertune.errors import FaultError, InputError, Interrupted
from bertune.files.atomic_write import is_disk_fault

VERBS = {
    "train": "fine-tune an encoder on labelled data",
    "sweep": "find hyper-parameters in the time there is",
    "distill": "train a small model from the outputs of a large one",
    "pretrain": "go on pre-training an encoder on text, or start from scratch",
    "vocab": "train a WordPiece vocabulary on text",
    "check": "what is wrong with data, before training on it",
    "evaluate": "metrics of a model on labelled data",
    "serve": "models behind HTTP, with a page to try them on",
    "compare": "metrics of several models on the same rows, with intervals and paired tests",
    "predict": "a model's answers for a file, one JSON object a line",
    "inspect": "what a checkpoint or model folder holds",
    "convert": "any readable encoder as a Hugging Face folder",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 done, 2 bad input or usage, 1 anything else."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a console's encoding lacks is shown as an escape
        sys.stdout.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        print(f"bertune {bertune.__version__}")
        return 0
    verb, *rest = arguments
    try:
        if verb not in VERBS:
            raise InputError(f"bertune: no command {verb!r}; known: {', '.join(VERBS)}")
        from bertune.cli.logs import start_logging

        start_logging()
        status: int | None = importlib.import_module(f"bertune.cli.{verb}").main(rest)
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FaultError as error:
        _drop_output()
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads on
        _drop_output()
        return 1
    except OSError as error:
        if not is_disk_fault(error):
            raise
        _drop_output()
        print(f"error: {error.filename or 'standard output'}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(error, file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return status or 0


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


def _help() -> str:
    lines = [f"bertune {bertune.__version__}: fine-tune BERT encoders", "", "usage: bertune COMMAND [OPTIONS]", ""]
    lines += [f"  {verb:<10}{text}" for verb, text in VERBS.items()]
    return "\n".join([*lines, "", "bertune COMMAND --help lists a command's options."])


if __name__ == "__main__":
    sys.exit(main())
