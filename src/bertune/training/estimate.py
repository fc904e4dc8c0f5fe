"""How long a training run will take, told before it starts: its operations by the rate of matrix products here.

An estimate within a factor of two on a machine that has nothing else to do; the first updates tell better.
"""

import time

import numpy as np
import numpy.typing as npt
import torch

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder

_SHARE = {"cpu": 0.7, "cuda": 0.4}
"""Share of the rate of large matrix products that training reaches (README, Figures); other devices: the least."""
_ROWS = 2048
_MEASURED = 0.05
"""Seconds of matrix products that tell the rate."""


def training_operations(
    encoder: Encoder, lengths: npt.NDArray[np.int64], *, passes: float, validated: int, again: bool = False
) -> float:
    """Floating-point operations of a run's updates and evaluations, two for a multiply-add.

    Args:
        encoder: that is trained.
        lengths: tokens of every training sequence. Shape: (sequences,).
        passes: over the training sequences.
        validated: tokens that all evaluations together read.
        again: whether activations are computed twice (--activation-checkpointing).
    """
    config = encoder.config
    products = 2 * sum(weight.numel() for layer in encoder.layers for weight in layer.parameters() if weight.ndim == 2)
    attention = 4 * config.hidden_size * config.num_hidden_layers
    tokens, squares = float(lengths.sum()), float(np.square(lengths.astype(np.float64)).sum())
    forward = products * tokens + attention * squares
    return forward * passes * (4 if again else 3) + products * validated


def seconds_of(operations: float, config: EncoderConfig, device: torch.device, dtype: torch.dtype) -> float:
    """Seconds that so many operations of training take on a device, in the numbers that matrices compute in."""
    share = _SHARE.get(device.type, min(_SHARE.values()))
    return operations / (matrix_rate(config.hidden_size, config.intermediate_size, device, dtype) * share)


def matrix_rate(inputs: int, outputs: int, device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second, two for a multiply-add, of products of the sizes that an encoder has."""
    one = torch.ones(_ROWS, inputs, device=device, dtype=dtype)
    other = torch.ones(inputs, outputs, device=device, dtype=dtype)
    best, begun = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - begun < _MEASURED:
        start = time.perf_counter()
        float((one @ other)[0, 0])  # to read a number waits for the device
        best = min(best, time.perf_counter() - start)
    return 2.0 * _ROWS * inputs * outputs / max(best, 1e-9)
