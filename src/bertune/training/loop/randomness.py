"""Every random generator that a run may draw from, as tensors in its checkpoints.

Our own kernels and layers draw from PyTorch's; those of Python and NumPy are kept for tasks in a file of the user's.
The order of the data needs none: seed and epoch decide it.
"""

import random
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Start all generators from one seed."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def random_state() -> dict[str, Tensor]:
    """The generators' states by name, for a checkpoint. Shape: (bytes or words of the state,) each."""
    _, words, gauss = random.getstate()
    _, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    state = {
        "random.cpu": torch.get_rng_state(),
        "random.python": torch.from_numpy(np.array(words, np.int64)),
        "random.python_gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "random.numpy": torch.from_numpy(np.array([*keys, place, has_gauss], np.int64)),
        "random.numpy_gauss": torch.tensor(cached, dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["random.cuda"] = torch.cuda.get_rng_state()
    if torch.backends.mps.is_available():
        state["random.mps"] = torch.mps.get_rng_state()
    return state


def restore_random_state(state: Mapping[str, Tensor]) -> None:
    """Take up what `random_state` gave; generators that it lacks, or that this machine lacks, stay as they are.

    Shape: as there.
    """
    torch.set_rng_state(state["random.cpu"])
    if "random.cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["random.cuda"])
    if "random.mps" in state and torch.backends.mps.is_available():
        torch.mps.set_rng_state(state["random.mps"])
    if "random.python" in state:
        gauss = state["random.python_gauss"].tolist()
        random.setstate((3, tuple(state["random.python"].tolist()), gauss[0] if gauss else None))
    if "random.numpy" in state:
        *keys, place, has_gauss = state["random.numpy"].tolist()
        cached = state["random.numpy_gauss"].item()
        np.random.set_state(("MT19937", np.array(keys, np.uint32), place, has_gauss, cached))
