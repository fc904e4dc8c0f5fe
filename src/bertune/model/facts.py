"""What a run records of itself beside its metrics: with what it was made, where, how long it took, what went wrong."""

from collections.abc import Mapping
from typing import Any

import torch

import bertune
from bertune import processor
from bertune.model.use import versions

RECORD_KEY = "record"
"""The key of run.yaml under which facts stand; it is no option."""


def facts(device: torch.device, dtype: torch.dtype, inputs: Mapping[str, str]) -> dict[str, Any]:
    """What is known at the start.

    inputs: SHA-256 of data files and of the encoder, by the options that name them.
    """
    return {
        "bertune": bertune.__version__,
        **versions(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": str(dtype).removeprefix("torch."),
        "sha256": dict(inputs),
    }


def device_name(device: torch.device) -> str:
    """`cpu: AMD EPYC …`, `cuda: NVIDIA H100 …`."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {processor.model_name()}"
