"""Hashes of what a run is made from; a resumed run must find the same."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from bertune.data.rows import file_sha256
from bertune.encoder.config import EncoderConfig
from bertune.tokenization.tokenizer import Tokenizer


def encoder_sha256(config: EncoderConfig, tensors: Mapping[str, Tensor], tokenizer: Tokenizer) -> str:
    """SHA-256 of an encoder as it was read: numbers, tensors by their names, tokenizer.

    The same wherever it is kept; a start from scratch has no tensors.
    """
    digest = hashlib.sha256(f"{config}{tokenizer.fingerprint}".encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of several files: of one its own, of more that of theirs."""
    found = [file_sha256(path) for path in paths]
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()
