"""The last layer for first tokens alone equals the whole one: every family's wiring, layout, type and route."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from bertune.encoder import int8
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.layout import Layout
from tests.encoder.test_encoder import LENGTHS, SIZES, WIDTH, Inputs, route

__all__ = ["route"]  # a fixture: each test that takes it runs with the kernels and without

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"position_offset": 2, "type_vocab_size": 1},
    "distilbert": {"type_vocab_size": 0, "pooler_act": "relu"},
    "albert": {"shared_layers": True, "embedding_size": 16, "hidden_act": "gelu_tanh"},
    "electra": {"embedding_size": 24, "pooler_act": "gelu"},
    "modernbert": {
        "type_vocab_size": 0,
        "biases": False,
        "pre_norm": True,
        "gated": True,
        "rotary_base": 160000.0,
        "local_window": 6,
        "local_rotary_base": 10000.0,
        "global_every": 2,
        "pooler_norm": True,
        "pooler_act": "gelu",
    },
    "modernbert, the last layer local": {
        "type_vocab_size": 0,
        "biases": False,
        "pre_norm": True,
        "gated": True,
        "rotary_base": 160000.0,
        "local_window": 6,
        "local_rotary_base": 10000.0,
        "global_every": 5,
    },
    "rotation and biases": {"type_vocab_size": 0, "rotary_base": 1000.0},
    "rotation, shared keys and values": {"type_vocab_size": 0, "rotary_base": 1000.0, "key_value_heads": 2},
    "local windows without rotation": {"local_window": 6, "global_every": 5},
    "one layer": {"num_hidden_layers": 1},
    "pre-norm, one layer": {"num_hidden_layers": 1, "pre_norm": True},
    "mean pooling": {"pooling": "mean"},
    "mpnet": {"relative": "bias", "relative_buckets": 32, "position_offset": 2, "type_vocab_size": 0},
    "deberta": {
        "relative": "projected",
        "relative_terms": ("c2p", "p2c"),
        "relative_buckets": 8,
        "relative_reach": 64,
        "relative_shared": True,
        "relative_norm": True,
        "absolute_positions": False,
    },
    "relative keys": {"relative": "layer", "relative_terms": ("c2p", "p2c"), "relative_reach": 64},
    "grouped heads": {"key_value_heads": 2, "rotary_base": 1000.0, "norm": "rms", "pre_norm": True, "gated": True},
    "convolution": {"convolution": 3, "convolution_groups": 2, "convolution_act": "gelu", "num_hidden_layers": 2},
    "convolution, one layer": {"convolution": 3, "num_hidden_layers": 1},
    "no pooler": {
        **{"pooler": False, "rotary_base": 2560000.0, "local_window": 3, "local_rotary_base": 10000.0},
        **{"global_every": 3, "global_first": 2, "rotary_scale": 0.5},
    },
    "late pooling": {"pooling": "late", "unbiased": ("attention", "up"), "hidden_act": "silu"},
}


def encoder_of(family: str) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**SIZES, **FAMILIES[family]})).eval()
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.2)
    return encoder


def run(encoder: Encoder, form: str, *, only_pooled: bool) -> EncoderOutput:
    inputs = Inputs(LENGTHS, WIDTH, 100)
    columns = [inputs.ids, inputs.segments, inputs.positions]
    if form == "padded":
        layout = Layout.padded(LENGTHS, WIDTH)
        columns = [column.reshape(-1) for column in columns]
    else:
        tail = 15 if form == "tail" else 0
        columns = [torch.cat([column[inputs.mask], column.new_zeros(tail)]) for column in columns]
        layout = Layout.packed(LENGTHS, total=len(columns[0]))
    output: EncoderOutput = encoder(*columns, layout, only_pooled=only_pooled)
    return output


def gradients(encoder: Encoder, pooled: Tensor) -> dict[str, Tensor]:
    encoder.zero_grad()
    weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(2))
    (pooled.float() * weights).sum().backward()  # type: ignore[no-untyped-call]
    return {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("form", ["packed", "tail", "padded"])
@pytest.mark.parametrize("family", FAMILIES)
def test_results_and_gradients_are_equal(route: str, family: str, form: str) -> None:
    encoder = encoder_of(family)
    whole = run(encoder, form, only_pooled=False).pooled_output
    expected = gradients(encoder, whole)
    first = run(encoder, form, only_pooled=True).pooled_output
    found = gradients(encoder, first)
    torch.testing.assert_close(first, whole, atol=1e-5, rtol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1.0)
        torch.testing.assert_close(found[name], gradient, atol=1e-5 * scale, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    "family", ["bert", "albert", "modernbert", "mpnet", "deberta", "relative keys", "grouped heads"]
)
def test_bfloat16_and_packed_matrices(route: str, family: str) -> None:
    encoder = encoder_of(family)
    with torch.inference_mode():
        exact = run(encoder, "packed", only_pooled=False).pooled_output
        encoder.set_compute_dtype(torch.bfloat16)
        whole = run(encoder, "packed", only_pooled=False).pooled_output
        for is_packed in (False, True):
            if is_packed:
                encoder.pack()
            first = run(encoder, "packed", only_pooled=True).pooled_output
            assert first.dtype == torch.bfloat16
            # Both are dominated by how the layers before round.
            assert float((first - exact).abs().mean()) < 1.5 * float((whole - exact).abs().mean())


@pytest.mark.skipif(not int8.supported(), reason="8-bit products need VNNI and the compiled kernels")
@pytest.mark.parametrize("family", FAMILIES)
def test_int8(family: str) -> None:
    """Products in 8 bits are near those in float32, and the last layer for first tokens alone is no further."""
    encoder = encoder_of(family)
    with torch.inference_mode():
        exact = run(encoder, "tail", only_pooled=False).pooled_output
        int8.quantize(encoder, torch.device("cpu"))
        assert int8.is_quantized(encoder)
        whole = run(encoder, "tail", only_pooled=False).pooled_output
        first = run(encoder, "tail", only_pooled=True).pooled_output
    assert not torch.equal(whole, exact)
    assert float((whole - exact).abs().mean()) < 0.1 * float(exact.abs().mean())
    assert float((first - exact).abs().mean()) < 1.2 * float((whole - exact).abs().mean())


def test_only_what_is_asked_for_is_computed() -> None:
    output = run(encoder_of("bert"), "packed", only_pooled=True)
    with pytest.raises(RuntimeError, match="remove that declaration"):
        _ = output.sequence_output
    with pytest.raises(RuntimeError, match="first tokens only"):
        _ = output.token_output


def test_activation_checkpointing_and_dropout(route: str) -> None:
    """With dropout on, masks follow the seed, and computing activations twice changes no gradient."""
    encoder = encoder_of("bert").train()
    found = []
    for checkpointing in (False, True):
        encoder.activation_checkpointing = checkpointing
        torch.manual_seed(3)
        found.append(gradients(encoder, run(encoder, "packed", only_pooled=True).pooled_output))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_frozen_layers_get_no_gradient(route: str) -> None:
    encoder = encoder_of("bert").train()
    for part in (encoder.embeddings, *encoder.layers[:2]):
        part.requires_grad_(requires_grad=False)
    found = gradients(encoder, run(encoder, "packed", only_pooled=True).pooled_output)
    assert {name.split(".")[0] + name.split(".")[1] for name in found} == {"layers2", "poolerweight", "poolerbias"}


def test_attention_dropout_has_the_same_distribution(route: str) -> None:
    """Mean and deviation over many masks, of attention's result with dropout on its weights alone."""
    config = dataclasses.replace(encoder_of("bert").config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.3)
    torch.manual_seed(0)
    encoder = Encoder(dataclasses.replace(config, num_hidden_layers=1)).train()
    for parameter in encoder.parameters():
        parameter.data.normal_(0, 0.1)
    drawn = {
        only: torch.stack([run(encoder, "packed", only_pooled=only).pooled_output.detach() for _ in range(150)])
        for only in (False, True)
    }
    deviation = drawn[False].std(0)
    assert float(deviation.min()) > 0
    error = deviation / 150**0.5
    assert float(((drawn[True].mean(0) - drawn[False].mean(0)).abs() / error).max()) < 7
    assert float((drawn[True].std(0).mean() / deviation.mean()).item()) == pytest.approx(1, abs=0.08)
