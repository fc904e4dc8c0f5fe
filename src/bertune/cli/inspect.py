"""`bertune inspect`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.options import option


@dataclass(frozen=True)
class InspectOptions:
    """Options of `bertune inspect`; the source is given without a flag."""

    json: bool = option(False, help="print one JSON object on stdout")


def main(argv: Sequence[str]) -> None:
    """Say what a source holds."""
    sources = [argument for argument in argv if not argument.startswith("-")]
    flags = [argument for argument in argv if argument.startswith("-")]
    said = parse("bertune inspect", "What SOURCE, a checkpoint or model folder, holds.", [InspectOptions], flags)
    if len(sources) != 1:
        raise InputError("bertune inspect: give one source, for example: bertune inspect minilm")

    from bertune.checkpoints.inspection import describe

    facts = describe(sources[0])
    if said.get("json"):
        print(json.dumps(facts, ensure_ascii=False))
        return
    from rich.console import Console

    from bertune.progress import table_of

    Console().print(table_of(sources[0], {name: _shown(value) for name, value in facts.items()}))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
