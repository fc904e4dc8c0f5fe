"""Dropout by the sequence's number: what else is in a batch, and where, changes no mask."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.kernels import build
from bertune.encoder.layout import Layout
from tests.encoder.test_encoder import SIZES
from tests.encoder.test_first_token import FAMILIES

ROTARY = ("modernbert", "rotation and biases", "rotation, shared keys and values")
WIRINGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "albert": FAMILIES["albert"],
    "pre-norm": FAMILIES["pre-norm, one layer"] | {"attention_probs_dropout_prob": 0.0},
    **{name: FAMILIES[name] | {"attention_probs_dropout_prob": 0.0} for name in ROTARY},
}
LENGTHS, KEYS = [9, 17, 3, 30], [1_000_003, 4, 77, 0]
pytestmark = pytest.mark.skipif(build.library(torch.float32) is None, reason="no C compiler here, so no kernels")


def outputs(encoder: Encoder, which: list[int], *, only_pooled: bool) -> dict[int, Tensor]:
    """What the encoder gives for some of the sequences in one batch, by their numbers."""
    generator = torch.Generator().manual_seed(3)
    texts = [torch.randint(0, SIZES["vocab_size"], (length,), generator=generator) for length in LENGTHS]
    lengths = [LENGTHS[i] for i in which]
    layout = Layout.packed(lengths, total=sum(lengths) + 5, keys=torch.tensor([KEYS[i] for i in which]))
    ids = torch.cat([*(texts[i] for i in which), torch.zeros(5, dtype=torch.int64)])
    positions = torch.cat([*(torch.arange(length) for length in lengths), torch.zeros(5, dtype=torch.int64)])
    torch.manual_seed(11)
    found = encoder(ids, torch.zeros_like(ids), positions, layout, only_pooled=only_pooled)
    if only_pooled:
        return dict(zip(which, found.pooled_output, strict=True))
    return {i: found.sequence_output[start : start + LENGTHS[i]] for i, start in zip(which, layout.starts, strict=True)}


@pytest.mark.parametrize("only_pooled", [False, True])
@pytest.mark.parametrize("wiring", WIRINGS)
def test_masks_follow_from_seed_and_number(wiring: str, only_pooled: bool) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**SIZES | WIRINGS[wiring])).train()
    assert encoder.drops_by_key
    whole = outputs(encoder, [0, 1, 2, 3], only_pooled=only_pooled)
    for which in ([2, 0], [3], [1]):
        for i, found in outputs(encoder, which, only_pooled=only_pooled).items():
            torch.testing.assert_close(found, whole[i], rtol=1e-4, atol=1e-5)
    calm = encoder.eval()
    assert not torch.allclose(outputs(calm, [3], only_pooled=only_pooled)[3], whole[3], rtol=1e-2, atol=1e-2)


def test_where_pytorch_draws_masks_they_follow_the_batch() -> None:
    for changes in (FAMILIES["deberta"], FAMILIES["mpnet"], FAMILIES["rotation and biases"]):
        assert not Encoder(EncoderConfig(**SIZES | {"attention_probs_dropout_prob": 0.1} | changes)).drops_by_key


def test_two_numbers_have_different_masks() -> None:
    layout = Layout.packed([4, 4], keys=torch.tensor([1, 2]))
    starts, rows = layout.sequence_masks, layout.row_masks(8)
    assert starts is not None
    assert rows is not None
    assert len(set((rows % 2**32).tolist())) == 8
    assert (rows[:4] - starts[0]).tolist() == [0, 8, 16, 24]
    assert layout.row_masks(8) is rows
