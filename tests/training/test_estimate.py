"""Operations of a run, counted by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bertune.conformance import tiny_encoder
from bertune.training.estimate import matrix_rate, seconds_of, training_operations


def test_operations(tmp_path: Path) -> None:
    encoder, _ = tiny_encoder(tmp_path)
    config, lengths = encoder.config, np.array([3, 5])
    hidden, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    per_token = 2 * layers * (4 * hidden * hidden + 2 * hidden * inner)
    attention = 4 * hidden * layers * (9 + 25)
    forward = 8 * per_token + attention
    assert training_operations(encoder, lengths, passes=2, validated=0) == 6 * forward
    assert training_operations(encoder, lengths, passes=2, validated=10, again=True) == 8 * forward + 10 * per_token


def test_seconds(tmp_path: Path) -> None:
    config = tiny_encoder(tmp_path)[0].config
    device = torch.device("cpu")
    before = torch.get_rng_state()
    rate = matrix_rate(256, 1024, device, torch.float32)
    assert 1e8 < rate < 1e14
    assert seconds_of(2e9, config, device, torch.float32) > seconds_of(1e6, config, device, torch.float32) > 0
    assert torch.equal(torch.get_rng_state(), before)  # a run's random numbers are its seed's alone
    assert pytest.approx(seconds_of(0, config, device, torch.float32)) == 0
