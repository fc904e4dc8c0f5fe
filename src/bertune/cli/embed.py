"""`bertune embed`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bertune.cli.arguments import parse
from bertune.cli.predict import SHOWN, show
from bertune.data.table_options import TableOptions
from bertune.errors import InputError
from bertune.options import DEVICES, PRECISIONS, option
from bertune.prediction.options import BulkOptions


@dataclass(frozen=True)
class EmbedOptions:
    """Options of `bertune embed` alone."""

    encoder: str = option(
        "minilm",
        help="model that computes the vectors: a bertune model, a sentence-transformers folder, or any encoder",
    )
    model: str | None = option(None, help="the same as --encoder")
    pooling: str | None = option(
        None, help="how token vectors become one vector: mean, cls, max, … (default: as the folder says)"
    )
    normalize: bool | None = option(
        None, help="scale every vector to length 1 (default: as the folder says, otherwise on)"
    )
    do_lower_case: bool | None = option(None, help="lower-case the text or not (default: as the encoder declares)")
    max_seq_length: int | None = option(None, help="longest sequence in tokens; longer texts are truncated")
    prompt_name: str | None = option(None, help="put this prompt of the model before every text (query, document)")
    batch_size: int = option(256, help="largest number of sequences in a batch", minimum=1)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)


@dataclass(frozen=True)
class EmbedColumns(TableOptions):
    """Where the texts stand."""

    text_column: str | None = option(None, help="column of the text (default: found by its name)")


def main(argv: Sequence[str]) -> None:
    """A vector for every text of the input, as a stream."""
    trees: list[type[Any]] = [EmbedOptions, BulkOptions, EmbedColumns]
    values = parse("bertune embed", "Write a vector for every text, for files of any size.", trees, argv)
    fields = {
        tree: {name: values[name] for name in (one.name for one in dataclasses.fields(tree)) if name in values}
        for tree in trees
    }
    own, options = EmbedOptions(**fields[EmbedOptions]), BulkOptions(**fields[BulkOptions])
    if own.model is not None and "encoder" in values:
        raise InputError(f"--model {own.model}, --encoder {own.encoder}: are the same option; give one of them")
    from bertune.checkpoints.source import require_source
    from bertune.embedding import Embedder
    from bertune.prediction import bulk
    from bertune.prediction.answerers import EmbeddingAnswerer
    from bertune.prediction.inputs import input_files
    from bertune.tasks.options import TextColumns

    source = own.model or own.encoder
    require_source(source, "--encoder" if own.model is None else "--model")
    bulk.check(options)
    form = {"pooling": own.pooling, "normalize": own.normalize, "max_seq_length": own.max_seq_length}
    with input_files(options.input) as files:
        embedder = Embedder(source, **form, device=own.device, precision=own.precision, do_lower_case=own.do_lower_case)  # type: ignore[arg-type]
        stated = {**form, "precision": own.precision, "do_lower_case": own.do_lower_case}
        columns = TextColumns(**fields[EmbedColumns])
        answerer = EmbeddingAnswerer(embedder, source, stated, columns, own.batch_size, own.prompt_name)
        if options.output is not None:
            bulk.run(answerer, files, options)
            return
        texts, answers = bulk.first_answers(answerer, files, SHOWN)
    rows = [
        (text, " ".join(f"{x:.4f}" for x in answer["embedding"][:4]) + " …", str(len(answer["embedding"])))
        for text, answer in zip(texts, answers, strict=True)
    ]
    show(("text", "vector", "numbers"), rows)
