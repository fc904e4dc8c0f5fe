"""All random generators start from the seed and go on from a state."""

import random

import numpy as np
import pytest
import torch

from bertune.training.loop.loop import save_generators
from bertune.training.loop.randomness import random_state, restore_random_state, seed_all


def _draw() -> list[float]:
    return [float(torch.rand(())), random.random(), random.gauss(0, 1), float(np.random.rand()), np.random.normal()]


def test_a_seed_decides_all() -> None:
    seed_all(5)
    first = _draw()
    assert _draw() != first
    seed_all(5)
    assert _draw() == first
    seed_all(2**40)  # NumPy's own take 32 bits


@pytest.mark.parametrize("before", [0, 1])
def test_a_state_goes_on(before: int) -> None:
    """Normal numbers come in pairs, the second of which waits in the state."""
    seed_all(1)
    for _ in range(before):
        random.gauss(0, 1)
        np.random.normal()
    state = random_state()
    first = [_draw(), _draw()]
    seed_all(2)
    restore_random_state(state)
    assert [_draw(), _draw()] == first


@pytest.mark.parametrize("before", [0, 1])
def test_a_bookmark_is_a_way_back_as_often_as_one_likes(before: int) -> None:
    seed_all(1)
    for _ in range(before):
        random.gauss(0, 1)
        np.random.normal()
    rewind = save_generators()
    first = [_draw(), _draw()]
    for _ in range(2):
        rewind()
        assert [_draw(), _draw()] == first
