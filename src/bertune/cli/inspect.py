"""`bertune inspect`."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.cli.arguments import parse
from bertune.errors import InputError, counted
from bertune.options import option


@dataclass(frozen=True)
class InspectOptions:
    """Options of `bertune inspect`; the source is given without a flag."""

    json: bool = option(False, help="print one JSON object on stdout")
    config_file: str | None = option(None, help="bert_config.json for a Google checkpoint whose folder has none")
    vocab_file: str | None = option(None, help="vocab.txt for a Google checkpoint whose folder has none")
    do_lower_case: bool | None = option(None, help="lower-case the text or not (default: as the source declares)")
    scope: str | None = option(None, help="scope of the encoder in a Google checkpoint (default: bert)")


def main(argv: Sequence[str]) -> None:
    """Say what a source holds."""
    sources, flags = _divided(argv)
    about = "Show what a checkpoint or model folder contains."
    source = ("SOURCE", "a folder, a checkpoint, a TF-Hub module, a name on the Hugging Face Hub, or minilm")
    parsed = parse("bertune inspect", about, [InspectOptions], flags, leading=source)
    if len(sources) != 1:
        raise InputError("bertune inspect: give one source, for example: bertune inspect minilm")

    from pathlib import Path

    from bertune.checkpoints.inspection import describe
    from bertune.checkpoints.source import SourceError, SourceOptions

    config, vocab = (None if parsed.get(name) is None else Path(parsed[name]) for name in ("config_file", "vocab_file"))
    options = SourceOptions(config, vocab, parsed.get("do_lower_case"), parsed.get("scope"))
    try:
        description = describe(sources[0], options=options)
    except SourceError as error:  # the source was named without an option
        raise InputError(error.text) from None
    if parsed.get("json"):
        print(json.dumps(description))
        return
    from rich.console import Console

    from bertune.tables import table_of

    Console().print(table_of(sources[0], {name: _shown(value) for name, value in description.items()}))


def _divided(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sources, and options with their values."""
    sources, flags, takes_value = list[str](), list[str](), False
    for argument in argv:
        (flags if takes_value or argument.startswith("-") else sources).append(argument)
        takes_value = argument.replace("_", "-") in {"--config-file", "--vocab-file", "--scope"}
    return sources, flags


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_in_short(part)}" for key, part in value.items())
    return (", ".join(map(str, value)) or "none") if isinstance(value, list) else str(value)


def _in_short(value: object) -> str:
    """For people: a SHA-256 by its first digits, of several values those that are set; --json has all of them."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {part}" for key, part in value.items() if part not in (None, [], {})) or "none"
    if isinstance(value, list):
        if any(isinstance(part, list | dict) for part in value):  # curves and the like
            return counted(len(value), "entry", "entries")
        return ", ".join(map(str, value)) or "none"
    text = str(value)
    return f"{text[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", text) else text
