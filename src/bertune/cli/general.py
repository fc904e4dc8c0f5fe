"""What `bertune --help` prints, and printing where nobody may read on.

It imports nothing that the interpreter has not imported already: everything here counts in the time of `--help`.
"""

import os
import sys

import bertune

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


def general_help() -> str:
    """The commands by what they are for, and how to begin."""
    lines = [f"bertune {bertune.__version__}: fine-tune BERT encoders", "", "usage: bertune COMMAND [OPTIONS]", ""]
    for heading, verbs in GROUPS.items():
        lines += [f"{heading}:", *(f"  {verb:<12}{text}" for verb, text in verbs.items()), ""]
    return "\n".join([*lines, _FIRST, "", "bertune COMMAND --help lists a command's options."])


def show(text: str) -> None:
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
