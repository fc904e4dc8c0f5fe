"""What a run was made from and with: hashes of its inputs, versions, machine, options."""

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import bertune
from bertune import processor
from bertune.data.rows import file_sha256
from bertune.encoder.config import EncoderConfig
from bertune.tokenization.tokenizer import Tokenizer

RECORD_KEY = "record"
"""The key of run.yaml under which facts stand; it is no option."""


BY_EXAMPLE = "by example"
"""What a record has as `dropout`, but those of runs that older versions began."""


def dropout_record(*, by_example: bool) -> dict[str, str]:
    """What the record says of dropout."""
    return {"dropout": BY_EXAMPLE} if by_example else {}


def run_provenance(
    device: torch.device, dtype: torch.dtype, inputs: Mapping[str, str], *, drops_by_example: bool
) -> dict[str, Any]:
    """What is known at the start.

    Args:
        device: that trains.
        dtype: that it computes in.
        inputs: SHA-256 of data files and of the encoder, by the options that name them.
        drops_by_example: as `training.launch.TrainingJob`.
    """
    return {
        "bertune": bertune.__version__,
        **versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": str(dtype).removeprefix("torch."),
        **dropout_record(by_example=drops_by_example),
        "sha256": dict(inputs),
    }


def device_name(device: torch.device) -> str:
    """`cpu: AMD EPYC …`, `cuda: NVIDIA H100 …`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {processor.model_name()}"


@dataclass(frozen=True)
class Provenance:
    """What a saved model tells of its making: source of the encoder, data with hashes and counts, options.

    calibration: temperatures by which the head's last layer was divided, and rows that they were fitted to.
    """

    encoder: str
    data: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    calibration: Mapping[str, Any] | None = None


def versions() -> dict[str, str]:
    """Versions of what decides a result, and the machine's kind."""
    found = {name: importlib.metadata.version(name) for name in ("torch", "numpy", "tokenizers", "safetensors")}
    return found | {"python": platform.python_version(), "machine": platform.machine()}


def encoder_sha256(config: EncoderConfig, tensors: Mapping[str, Tensor], tokenizer: Tokenizer) -> str:
    """SHA-256 of an encoder as it was read: numbers, tensors by their names, tokenizer.

    The same wherever it is kept; a start from scratch has no tensors.
    """
    digest = hashlib.sha256(f"{_described(config)}{tokenizer.fingerprint}".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


_LATER_FIELDS = frozenset({
    "gate_last", "key_value_heads", "unbiased", "norm", "embedding_norm", "gated_dropout", "absolute_positions",
    "rotary_scale", "global_first", "convolution", "convolution_groups", "convolution_act", "pooler",
    "relative", "relative_terms", "relative_buckets", "relative_reach", "relative_shared", "relative_norm",
})  # fmt: skip
"""Fields of a config that 0.1.0 lacked: at their defaults they are no part of the hash, so that its runs resume."""


def _described(config: EncoderConfig) -> str:
    """A config as Python shows it, in the form that 0.1.0 hashed."""
    shown = (
        f"{field.name}={getattr(config, field.name)!r}"
        for field in dataclasses.fields(config)
        if field.name not in _LATER_FIELDS or getattr(config, field.name) != field.default
    )
    return f"EncoderConfig({', '.join(shown)})"


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of several files: of one its own, of more that of theirs."""
    found = [file_sha256(path) for path in paths]
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()
