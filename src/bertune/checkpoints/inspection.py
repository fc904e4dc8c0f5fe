"""What a source holds, for people and for machines."""

import dataclasses
from pathlib import Path
from typing import Any

from bertune.checkpoints.exported import describe_exported, is_exported
from bertune.checkpoints.families.bert import BERT
from bertune.checkpoints.source import NO_OPTIONS, SourceOptions, build_encoder, open_checkpoint
from bertune.data.rows import file_sha256
from bertune.encoder.config import EncoderConfig
from bertune.files.json_files import read_json

_HASHED = (".safetensors", ".bin", ".index", ".json", ".txt", ".pb")
_HASHED_PREFIXES = (".data-",)


def describe(source: str, *, options: SourceOptions = NO_OPTIONS) -> dict[str, Any]:
    """Family, sizes, parameters, casing, heads, special tokens, longest sequence, and hashes of the files.

    Args:
        source: as for `open_encoder`.
        options: what the source does not say itself.

    Raises:
        InputError: nothing readable there.
    """
    if is_exported(Path(source)):
        return describe_exported(Path(source))
    with open_checkpoint(source, options=options) as checkpoint:
        encoder, report = build_encoder(checkpoint)
        tokenizer = checkpoint.tokenizer
        special = {name: f"{tokenizer.tokens([index])[0]} ({index})" for name, index in tokenizer.special.ids.items()}
        description: dict[str, Any] = {
            "format": checkpoint.dialect,
            "family": checkpoint.config.family,
            "sizes": _sizes(checkpoint.config),
            "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
            "tensors": str(report),
            "architectures": checkpoint.settings.get("architectures", []),
            "heads": checkpoint.heads,
            "vocabulary": tokenizer.vocab_size,
            "casing": {True: "lower-cases", False: "cased", None: "unknown"}[tokenizer.do_lower_case],
            "special_tokens": special,
            "max_seq_length": checkpoint.config.max_position_embeddings,
        }
        folder = checkpoint.path if checkpoint.path.is_dir() else checkpoint.path.parent
        record = folder / "bertune.json"
        if record.is_file():
            task = read_json(record).get("task", {})
            description["task"] = task
        description["sha256"] = {str(path.relative_to(folder)): file_sha256(path) for path in hashed_files(folder)}
        return description


def _sizes(config: EncoderConfig) -> dict[str, Any]:
    """The encoder's numbers: BERT's always, of the wiring only what differs from BERT."""
    usual = {field.name: field.default for field in dataclasses.fields(EncoderConfig)}
    return {
        name: value
        for name, value in dataclasses.asdict(config).items()
        if name in BERT.keys or name == "hidden_act" or (name != "family" and value != usual[name])
    }


def hashed_files(folder: Path) -> list[Path]:
    """The checkpoint's files; a SavedModel keeps some of its own in folders."""
    found = [*folder.iterdir()]
    if (folder / "saved_model.pb").is_file():
        found += [*folder.glob("variables/*"), *folder.glob("assets/*")]
    return sorted(path for path in found if _is_hashed(path))


def _is_hashed(path: Path) -> bool:
    return path.is_file() and (path.suffix in _HASHED or any(part in path.name for part in _HASHED_PREFIXES))
