"""What a source holds, for people and for machines."""

import dataclasses
from pathlib import Path
from typing import Any

from bertune.checkpoints.huggingface import read_json
from bertune.checkpoints.source import build_encoder, open_checkpoint
from bertune.data.rows import file_sha256

_HASHED = (".safetensors", ".bin", ".index", ".json", ".txt", ".pb")
_HASHED_PREFIXES = (".data-",)


def describe(source: str) -> dict[str, Any]:
    """Family, sizes, parameters, casing, heads, special tokens, longest sequence, and hashes of the files.

    Raises:
        InputError: nothing readable there.
    """
    with open_checkpoint(source) as checkpoint:
        encoder, report = build_encoder(checkpoint)
        tokenizer = checkpoint.tokenizer
        special = {
            name: f"{tokenizer.tokens([index])[0]} ({index})"
            for name, index in dataclasses.asdict(tokenizer.special).items()
            if index is not None
        }
        facts: dict[str, Any] = {
            "format": checkpoint.dialect,
            "family": checkpoint.config.family,
            "sizes": dataclasses.asdict(checkpoint.config),
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
            facts["task"] = task
        facts["sha256"] = {path.name: file_sha256(path) for path in sorted(folder.iterdir()) if _is_hashed(path)}
        return facts


def _is_hashed(path: Path) -> bool:
    return path.is_file() and (path.suffix in _HASHED or any(part in path.name for part in _HASHED_PREFIXES))
