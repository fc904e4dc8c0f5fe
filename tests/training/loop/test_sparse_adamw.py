"""Sparse gradients of the word table, the CPU's default, give the weights that dense ones give PyTorch's own AdamW."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bertune.options import AdamWOptions
from bertune.training.loop.optimizer import AdamW

RATE, DECAY = 0.05, 0.1
BATCHES = ([3, 1, 3], [0], [7, 7, 7, 2], [1, 4], [3])
"""Words of every update: some come again after updates without them, some never come, some come several times."""


def train(table: nn.Embedding, step: Callable[[], object]) -> Tensor:
    """Updates on these words, each word's vector pulled towards its number."""
    for words in BATCHES:
        found = table(torch.tensor(words))
        loss = ((found - torch.tensor(words)[:, None]) ** 2).sum()
        loss.backward()
        step()
    return table.weight.detach()


@pytest.mark.parametrize("kernels", ["on", "off"])
def test_sparse_gradients_train_as_dense_ones_do(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BERTUNE_KERNELS", kernels)
    torch.manual_seed(0)
    start = torch.randn(9, 16)
    ours, theirs = nn.Embedding(9, 16, sparse=True), nn.Embedding(9, 16)
    ours.weight.data, theirs.weight.data = start.clone(), start.clone()
    own = AdamW(ours.named_parameters(), AdamWOptions(weight_decay=DECAY, max_grad_norm=0.0))
    reference = torch.optim.AdamW(theirs.parameters(), lr=RATE, weight_decay=DECAY)

    def step() -> None:
        reference.step()
        reference.zero_grad(set_to_none=False)

    found, expected = train(ours, lambda: own.step(RATE)), train(theirs, step)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.equal(found, start)
