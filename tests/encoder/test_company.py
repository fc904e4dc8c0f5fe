"""What a text is answered does not depend, to the bit, on the texts beside it: BERT's wiring, every precision."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from bertune import processor
from bertune.encoder import int8
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.float32_route import fast_float32, pack_for_prediction
from bertune.encoder.kernels import calls
from bertune.encoder.layout import Layout
from bertune.inference.sentence_modules import pool
from bertune.tasks.shared.heads import PooledHead, PoolingHead, TokenHead
from bertune.tasks.shared.pair_head import PairHead

CPU = torch.device("cpu")
LENGTHS = [7, 30, 3, 19, 64, 5, 61, 40] * 6
GROUPS = [[0, 0], [4, 4], [2, 5], [0, 1, 2], list(range(7)), list(range(17)), list(range(20, 40))]
"""Sequences that are run together; never one alone, which `pack_with_companion` sees to."""


def encoder_in(precision: str, config: EncoderConfig) -> Encoder:
    """A random encoder, ready to predict."""
    torch.manual_seed(0)
    encoder = Encoder(config).eval()
    encoder.requires_grad_(requires_grad=False)
    if precision != "fp32":
        encoder.set_compute_dtype(torch.bfloat16)
    if precision == "int8":
        int8.quantize(encoder, CPU)
    pack_for_prediction(encoder, CPU)
    return encoder


@pytest.mark.skipif(not calls.available(torch.empty(0)), reason="needs the compiled kernels")
@pytest.mark.parametrize("width", [(64, 96), (768, 3072)], ids=["tiny", "base"])
@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_answers_do_not_depend_on_the_batch(precision: str, width: tuple[int, int]) -> None:
    if precision != "fp32" and not processor.features() & {"avx512_bf16", "amx_bf16"}:
        pytest.skip("bfloat16 is not this processor's own, and no precision that is chosen for it")
    hidden, middle = width
    config = EncoderConfig(
        vocab_size=100, hidden_size=hidden, num_hidden_layers=2, num_attention_heads=hidden // 32,
        intermediate_size=middle, max_position_embeddings=64,
    )  # fmt: skip
    encoder = encoder_in(precision, config)
    heads = (PooledHead(config, 5).eval(), TokenHead(config, 3).eval(), PoolingHead("mean"), PairHead(config, 2).eval())
    texts = [torch.randint(5, 100, (length,)) for length in LENGTHS]

    def answers(group: Sequence[int], *, only_pooled: bool) -> tuple[Layout, list[Tensor]]:
        lengths = [LENGTHS[i] for i in group]
        layout = Layout.packed(lengths, total=-(-sum(lengths) // 32) * 32)
        rest = torch.zeros(layout.total - sum(lengths), dtype=torch.int64)
        ids = torch.cat([*(texts[i] for i in group), rest])
        positions = torch.cat([*(torch.arange(length) for length in lengths), rest])
        segments = torch.cat([*((torch.arange(length) > length // 2).long() for length in lengths), rest])
        with torch.inference_mode(), fast_float32(CPU):
            output = encoder(ids, segments, positions, layout, only_pooled=only_pooled)
            found = [head(output, layout) for head in heads[: 1 if only_pooled else 4]]
            if not only_pooled:
                found += [pool(output.sequence_output.float(), layout, mode, 1) for mode in ("mean", "weightedmean")]
            return layout, found

    for only_pooled in (True, False):
        whole, everyone = answers(range(len(LENGTHS)), only_pooled=only_pooled)
        for group in GROUPS:
            layout, some = answers(group, only_pooled=only_pooled)
            for one, other in zip(everyone, some, strict=True):
                for place, i in enumerate(group):
                    expected = one[whole.starts[i] :][: LENGTHS[i]] if len(one) == whole.total else one[i]
                    found = other[layout.starts[place] :][: LENGTHS[i]] if len(other) == layout.total else other[place]
                    assert torch.equal(found, expected)
