"""How long a pre-training run will take, told before it starts, like that of fine-tuning (`training.estimate`)."""

import numpy as np
import numpy.typing as npt
import torch

from bertune.durations import duration
from bertune.errors import counted
from bertune.features import IGNORED, Ragged
from bertune.network import Network
from bertune.pretraining.data import PretrainingData, Source
from bertune.training.estimate import seconds_of, training_operations
from bertune.training.loop.state import TrainConfig

_LOOKED_AT = 256
"""Sequences whose lengths and masks stand for all."""


def size_of(
    config: TrainConfig,
    network: Network,
    data: PretrainingData,
    where: tuple[torch.device, torch.dtype],
    *,
    most: int,
    again: bool = False,
) -> str:
    """Updates, passes over the data, and about how long they and the evaluations take, for the log.

    Args:
        config: of the loop.
        network: that is trained.
        data: that it is trained and evaluated on.
        where: the device, and the numbers that matrices compute in.
        most: sequences of an evaluation, at most.
        again: whether activations are computed twice.
    """
    encoder = network.encoder
    passes = config.steps * config.batch_size / len(data.train)
    lengths, masked = _looked_at(data.train)
    validated = 0.0
    if data.validation is not None:
        evaluations = 1 + -(-config.steps // (config.check_every or config.steps))
        few, _ = _looked_at(data.validation)
        validated = float(few.mean()) * min(most, len(data.validation)) * evaluations
    scale = len(data.train) / len(lengths)
    work = training_operations(
        encoder, lengths, passes=passes * scale, validated=round(validated), again=again
    )  # the lengths of some, as often as they stand for others
    words = 2 * encoder.config.hidden_size * encoder.config.vocab_size
    work += 3 * words * masked * float(lengths.sum()) * scale * passes
    seconds = max(1.0, seconds_of(work, encoder.config, *where))
    size = f"{counted(config.steps, 'update')} of {counted(config.batch_size, 'sequence')}"
    return f"{size}, {passes:.3g} {'pass' if passes == 1 else 'passes'}; about {duration(seconds)}"


def _looked_at(source: Source) -> tuple[npt.NDArray[np.int64], float]:
    """Tokens of some sequences, spread over all, and the share of them that is to be predicted. Shape: (some,)."""
    rows = np.linspace(0, len(source) - 1, min(len(source), _LOOKED_AT)).round().astype(np.int64)
    found = source.features(rows, 0)
    labels = found.targets["labels"]
    assert isinstance(labels, Ragged)
    return found.input_ids.lengths.astype(np.int64), float((labels.values != IGNORED).mean())
