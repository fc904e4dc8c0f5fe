"""`bertune VERB …`: answers `--help` and `--version` by itself, and leaves the rest to `command`.

Nothing is imported here that the interpreter has not imported already: everything counts in the time of `--help`.
"""

import os
import sys

import bertune

TYPE_CHECKING = False  # as type checkers know it; importing it from typing is a tenth of the time of `bertune --help`
if TYPE_CHECKING:
    from collections.abc import Sequence

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


def main(argv: "Sequence[str] | None" = None) -> int:
    """Run a command. Returns the exit status: 0 done, 2 bad input or usage, 1 anything else.

    argv: None: those of the process, which is then a process of ours.
    """
    if hasattr(sys.stdout, "reconfigure"):  # what a console's encoding lacks is shown as an escape
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
    from bertune.cli.command import end_despite_trackers, run

    status = run(arguments)
    if argv is None:
        end_despite_trackers(status)
    return status


def _print(text: str) -> None:
    """Print, to `head` too, which stops reading when it has enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        drop_output()


def drop_output() -> None:
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
    for heading, verbs in GROUPS.items():
        lines += [f"{heading}:", *(f"  {verb:<12}{text}" for verb, text in verbs.items()), ""]
    return "\n".join([*lines, _FIRST, "", "bertune COMMAND --help lists a command's options."])


if __name__ == "__main__":
    sys.exit(main())
