"""`python -m bertune_runtime predict …` and `… serve …`."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import bertune_runtime
from bertune.cli.arguments import parse
from bertune.cli.using import parse_for_model
from bertune.errors import FaultError, InputError, counted
from bertune.options import option

_OTHER_FORMATS = (".csv", ".tsv", ".parquet", ".arrow", ".xlsx", ".gz", ".zst")
_ABOUT = """Run models that bertune export wrote, without torch.

usage: python -m bertune_runtime COMMAND [OPTIONS]

  predict     write a model's predictions for a file
  serve       serve models over HTTP, with a page to try them

For example:
  python -m bertune_runtime predict --model exported --input new.csv --output answers.jsonl

python -m bertune_runtime COMMAND --help lists a command's options."""


@dataclass(frozen=True)
class PredictOptions:
    """Options of `predict`."""

    model: str = option(help="folder that bertune export wrote")
    input: str = option(help="data to answer: CSV, TSV or JSON lines; labels are not needed")
    output: str = option(
        "-", help="file for the answers, one JSON object per line in input order; - for standard output", value="FILE"
    )
    batch_size: int = option(256, help="largest number of sequences in a batch")
    precision: str = option(
        "auto", help="graph to run; auto: the 8-bit one if there is one", choices=("auto", "fp32", "int8")
    )
    threads: int = option(0, help="number of threads; 0: one per core")
    trust_task_file: str | None = option(
        None, help="Python file of the model's task, if it was trained with --task FILE.py:Class; its code is run"
    )


def predict(argv: Sequence[str]) -> None:
    """Answer every row of a file, as a stream."""
    from bertune.files.inputs import seekable
    from bertune.files.outputs import check_output, open_output, refuse_inputs
    from bertune_runtime.model import load

    about = "Write an exported model's predictions for a file."
    (options,), task_options = parse_for_model("bertune_runtime predict", about, [PredictOptions], argv)
    if options.batch_size < 1 or options.threads < 0:
        raise InputError(f"--batch-size {options.batch_size}, --threads {options.threads}: at least 1, and at least 0")
    if options.input != "-" and not Path(options.input).exists():
        raise InputError(f"--input {options.input}: no such file")
    if (suffix := Path(options.output).suffix.lower()) in _OTHER_FORMATS:
        raise InputError(f"--output {options.output}: answers are JSON lines here, not {suffix}; name a .jsonl file")
    check_output(options.output)
    refuse_inputs(options.output, [Path(options.input)])
    model = load(
        options.model,
        precision=options.precision,
        threads=options.threads,
        trust_task_file=options.trust_task_file,
    )
    task = model.task.with_options(replace(model.task.options, **task_options))
    model = replace(model, task=task)
    count = 0
    with seekable(options.input, "--input") as path, open_output(options.output) as stream:
        for answer in model.predict_examples(task.read(path, labelled=False), batch_size=options.batch_size):
            stream.write(json.dumps(answer, ensure_ascii=False).encode() + b"\n")
            count += 1
    if options.output != "-":
        logging.getLogger("bertune").info("%s: %s", options.output, counted(count, "answer"))


def serve(argv: Sequence[str]) -> None:
    """Serve exported models until a signal."""
    from bertune.cli.serve import serve as serve_models
    from bertune.serving.options import ServeOptions, environment_arguments
    from bertune_runtime.model import PRECISIONS, load

    about = "Serve exported models over HTTP, with a page to try them on: the same service as bertune serve."
    arguments = [*environment_arguments(), *argv]
    options = ServeOptions(**parse("bertune_runtime serve", about, [ServeOptions], arguments))
    if options.precision not in PRECISIONS:
        raise InputError(f"--precision {options.precision}: exported models compute in {', '.join(PRECISIONS)}")
    if options.device not in ("auto", "cpu"):
        raise InputError(f"--device {options.device}: exported models compute on the CPU")
    loading = partial(load, precision=options.precision, trust_task_file=options.trust_task_file)
    serve_models(options, loading, "bertune-runtime")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0 done, 2 bad input or usage, 1 anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    commands = {"predict": predict, "serve": serve}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_ABOUT)
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"bertune-runtime {bertune_runtime.__version__}")
        return 0
    logging.basicConfig(format="%(levelname)s: %(message)s", stream=sys.stderr)
    logging.getLogger("bertune").setLevel(logging.INFO)
    try:
        if arguments[0] not in commands:
            raise InputError(f"bertune_runtime: no command {arguments[0]!r}; known: {', '.join(commands)}")
        commands[arguments[0]](arguments[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except FaultError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # nobody reads on
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
