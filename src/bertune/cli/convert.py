"""`bertune convert`."""

from collections.abc import Sequence
from dataclasses import dataclass

from bertune.cli.arguments import parse
from bertune.options import option


@dataclass(frozen=True)
class ConvertOptions:
    """Options of `bertune convert`."""

    encoder: str = option(help="where the encoder is: a folder, a checkpoint, a TF-Hub module, or minilm")
    output: str = option(help="new folder for it")
    format: str = option("huggingface", help="whose layout to write", choices=("huggingface", "google"))


def main(argv: Sequence[str]) -> None:
    """Write an encoder in another layout."""
    said = parse("bertune convert", "Any readable encoder in another layout.", [ConvertOptions], argv)
    options = ConvertOptions(**said)

    from pathlib import Path

    from bertune.checkpoints.conversion import convert

    convert(options.encoder, Path(options.output), layout=options.format)
