"""Dropout by the sequence's key: what else is in a batch, and where, changes no mask, with the kernels and without."""

import dataclasses

import pytest
import torch
from torch import Tensor

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout, dropout_factors, random_bits
from bertune.encoder.modules import Dropout
from bertune.network import Network
from tests.encoder.test_encoder import SIZES, route
from tests.encoder.test_first_token import FAMILIES

__all__ = ["route"]  # a fixture: each test that takes it runs with the kernels and without

LENGTHS, KEYS = [9, 17, 3, 30], [1_000_003, 4, 77, 0]


def keyed(lengths: list[int], keys: list[int], total: int | None = None) -> Layout:
    return dataclasses.replace(Layout.packed(lengths, total=total), keys=torch.tensor(keys))


def outputs(encoder: Encoder, which: list[int], *, only_pooled: bool, seed: int = 11) -> dict[int, Tensor]:
    """What the encoder gives for some of the sequences in one batch, by their numbers."""
    generator = torch.Generator().manual_seed(3)
    texts = [torch.randint(0, SIZES["vocab_size"], (length,), generator=generator) for length in LENGTHS]
    lengths = [LENGTHS[i] for i in which]
    layout = keyed(lengths, [KEYS[i] for i in which], sum(lengths) + 5)
    ids = torch.cat([*(texts[i] for i in which), torch.zeros(5, dtype=torch.int64)])
    positions = torch.cat([*(torch.arange(length) for length in lengths), torch.zeros(5, dtype=torch.int64)])
    torch.manual_seed(seed)
    found = encoder(ids, torch.zeros_like(ids), positions, layout, only_pooled=only_pooled)
    if only_pooled:
        return dict(zip(which, found.pooled_output, strict=True))
    return {i: found.sequence_output[start : start + LENGTHS[i]] for i, start in zip(which, layout.starts, strict=True)}


def new_encoder(family: str) -> Encoder:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(**SIZES | FAMILIES[family])).train()


@pytest.mark.parametrize("only_pooled", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_masks_follow_from_seed_and_key(route: str, family: str, only_pooled: bool) -> None:
    encoder = new_encoder(family)
    whole = outputs(encoder, [0, 1, 2, 3], only_pooled=only_pooled)
    for which in ([2, 0], [3], [1]):
        for i, found in outputs(encoder, which, only_pooled=only_pooled).items():
            torch.testing.assert_close(found, whole[i], rtol=1e-4, atol=1e-5)
    other = outputs(encoder, [3], only_pooled=only_pooled, seed=12)[3]
    assert not torch.allclose(other, whole[3], rtol=1e-2, atol=1e-2)
    assert not torch.allclose(outputs(encoder.eval(), [3], only_pooled=only_pooled)[3], whole[3], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("family", ["bert", "modernbert", "deberta", "mpnet"])
def test_kernels_and_pytorch_draw_the_same_masks(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    encoder = new_encoder(family)
    found = outputs(encoder, [0, 1, 2, 3], only_pooled=False)
    monkeypatch.setattr(calls, "available", lambda _: False)
    for i, right in outputs(encoder, [0, 1, 2, 3], only_pooled=False).items():
        torch.testing.assert_close(found[i], right, rtol=1e-4, atol=1e-5)


def test_keys_lengths_and_heads_have_masks_of_their_own() -> None:
    layout = keyed([4, 4], [1, 2])
    starts, rows, queries = layout.sequence_masks, layout.row_masks(8), layout.attention_masks(3, 4)
    assert starts is not None
    assert rows is not None
    assert queries is not None
    assert len(set((rows % 2**32).tolist())) == 8
    assert (rows[:4] - starts[0]).tolist() == [0, 8, 16, 24]
    assert layout.row_masks(8) is rows
    assert len(set((queries % 2**32).flatten().tolist())) == 2 * 3 * 4
    assert (queries[1, 0] - starts[1]).tolist() == [0, 4, 8, 12]


def test_the_rate_is_kept_and_masks_do_not_repeat() -> None:
    """Of a thousand sequences; of two seeds, two sequences, two rows as many elements agree as by chance."""
    layout = keyed([1] * 1000, list(range(1000)))
    assert layout.sequence_masks is not None
    torch.manual_seed(1)
    seeds = calls.new_seed(), calls.new_seed()
    kept, again = (dropout_factors(layout.sequence_masks, 256, 0.1, seed) > 0 for seed in seeds)
    assert abs(float(kept.float().mean()) - 0.9) < 0.002
    assert float((kept.float().mean(1) - 0.9).abs().max()) < 0.09  # of 256 elements five deviations
    by_chance = 0.9**2 + 0.1**2
    for one, other in ((kept, again), (kept[:-1], kept[1:]), (kept[:, :-1], kept[:, 1:])):
        assert abs(float((one == other).float().mean()) - by_chance) < 0.004
    bits = random_bits(layout.sequence_masks, 256, 7).float() / 2**31
    assert abs(float(bits.mean())) < 0.01
    assert -1 <= float(bits.min()) < -0.999
    assert 0.999 < float(bits.max()) <= 1


def test_gradients_pass_where_elements_were_kept(route: str) -> None:
    layout, drop = keyed([3, 2], [5, 9]), Dropout(0.5).train()
    x = torch.ones(5, 64, requires_grad=True)
    y = drop(x, layout)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert 0 < int((y == 0).sum()) < y.numel()


def test_heads_without_keys_draw_as_pytorch_does() -> None:
    """So that runs that older versions began go on with the numbers that they would have drawn."""
    x, layout = torch.ones(4, 64), Layout.packed([1, 1, 1, 1], total=32)
    torch.manual_seed(3)
    theirs = torch.nn.Dropout(0.1)(x)
    torch.manual_seed(3)
    assert torch.equal(Dropout(0.1, of_head=True)(x, layout), theirs)


def test_a_head_that_draws_masks_itself_rules_it_out() -> None:
    encoder = new_encoder("bert")
    assert Network(encoder, torch.nn.Linear(2, 2)).drops_by_key
    assert not Network(encoder, torch.nn.Sequential(torch.nn.Dropout(0.1))).drops_by_key
