"""Masked words without torch are those of the head."""

import numpy as np
import torch
from bertune_runtime.model import most_probable

from bertune.features import IGNORED
from bertune.tasks.masking.head import most_probable as by_torch


def test_words_and_probabilities_are_the_head_s() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    expected = by_torch(torch.from_numpy(logits)).numpy()
    expected[[0, 3]] = 0
    found = most_probable(logits, np.array([IGNORED, 0, 1, IGNORED]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
