"""`bertune convert`."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.options import option


@dataclass(frozen=True)
class ConvertOptions:
    """Options of `bertune convert`. With a task the head comes along, and the result is a model folder."""

    encoder: str = option(help="encoder to convert: a folder, a checkpoint, a name on the Hugging Face Hub, or minilm")
    output: str = option(help="new folder for the result")
    format: str = option("huggingface", help="format to write", choices=("huggingface", "google"))
    task: str | None = option(None, help="task of a fine-tuned checkpoint, whose head is converted too")
    labels: str | None = option(
        None, help="with --task: names of the classes in the order of the logits, such as no,yes"
    )
    unanswerable: bool = option(
        False, help="with --task question-answering: the model was trained with unanswerable questions"
    )
    max_seq_length: int | None = option(None, help="with --task: longest sequence in predictions, in tokens")
    config_file: str | None = option(None, help="bert_config.json for a Google checkpoint whose folder has none")
    vocab_file: str | None = option(None, help="vocab.txt for a Google checkpoint whose folder has none")
    do_lower_case: bool | None = option(None, help="lower-case the text or not (default: as the source declares)")
    scope: str | None = option(None, help="scope of the encoder in a Google checkpoint (default: bert)")


def main(argv: Sequence[str]) -> None:
    """Write an encoder, or a fine-tuned model, in another layout."""
    parsed = parse(
        "bertune convert", "Convert an encoder to a Hugging Face folder or a Google checkpoint.", [ConvertOptions], argv
    )
    options = ConvertOptions(**parsed)
    _check(options)

    from pathlib import Path

    from bertune.checkpoints.source import SourceOptions
    from bertune.conversion import Finetuned, convert, convert_finetuned
    from bertune.tasks.registry import new_task

    source = SourceOptions(
        Path(options.config_file) if options.config_file else None,
        Path(options.vocab_file) if options.vocab_file else None,
        options.do_lower_case,
        options.scope,
    )
    if options.task is None:
        convert(options.encoder, Path(options.output), layout=options.format, options=source)
        return
    labels = [label.strip() for label in options.labels.split(",")] if options.labels else []
    finetuned = Finetuned(new_task(options.task), labels, options.unanswerable, options.max_seq_length)
    convert_finetuned(options.encoder, Path(options.output), finetuned, options=source)


def _check(options: ConvertOptions) -> None:
    if options.task is not None and options.format == "google":
        raise InputError("--format google: writes encoders only; leave --task away")
    given = {
        "--labels": options.labels,
        "--unanswerable": options.unanswerable or None,
        "--max-seq-length": options.max_seq_length,
    }
    alone = [name for name, value in given.items() if value is not None]
    if options.task is None and alone:
        raise InputError(f"{', '.join(alone)}: needs --task, as in --task text-classification")
