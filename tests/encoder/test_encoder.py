"""The encoder equals google-research/bert and transformers, in every layout and on both of its routes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bertune import processor
from bertune.checkpoints.huggingface import encoder_names
from bertune.checkpoints.names import to_ours, to_theirs
from bertune.checkpoints.source import open_encoder
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder, EncoderOutput
from bertune.encoder.initialisation import truncated_normal_
from bertune.encoder.kernels import build
from bertune.encoder.layout import Layout
from bertune.errors import InputError

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
}
LENGTHS = [5, 17, 40, 2, 33]
WIDTH = 40


@pytest.fixture(params=["kernels", "pytorch"])
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each test runs with the compiled kernels and with PyTorch's operations alone."""
    if request.param == "pytorch":
        monkeypatch.setenv("BERTUNE_KERNELS", "off")
    build.library.cache_clear()
    if request.param == "kernels" and build.library(torch.float32) is None:
        pytest.skip("no C compiler here, so there are no kernels to test")
    yield request.param
    monkeypatch.undo()
    build.library.cache_clear()


class Inputs:
    """The same sequences packed, packed with a tail, and padded."""

    def __init__(self, lengths: list[int], width: int, vocabulary: int) -> None:
        generator = torch.Generator().manual_seed(1)
        self.lengths, self.width = lengths, width
        shape = (len(lengths), width)
        self.mask = torch.arange(width) < torch.tensor(lengths)[:, None]
        self.ids = torch.randint(0, vocabulary, shape, generator=generator)
        self.segments = torch.randint(0, 2, shape, generator=generator)
        self.positions = torch.arange(width).expand(shape)

    def run(self, encoder: Encoder, form: str) -> EncoderOutput:
        columns = [self.ids, self.segments, self.positions]
        if form == "padded":
            layout = Layout.padded(self.lengths, self.width)
            padded: EncoderOutput = encoder(*(column.reshape(-1) for column in columns), layout, keep_layers=True)
            return padded
        packed = [column[self.mask] for column in columns]
        total = len(packed[0])
        if form == "tail":
            total += 15
            packed = [torch.cat([column, column.new_zeros(15)]) for column in packed]
        output: EncoderOutput = encoder(*packed, Layout.packed(self.lengths, total=total), keep_layers=True)
        return output

    def real(self, tokens: Tensor, form: str) -> Tensor:
        """Vectors of the real tokens, end to end."""
        if form == "padded":
            return tokens.view(len(self.lengths), self.width, -1)[self.mask]
        return tokens[: sum(self.lengths)]


@pytest.mark.parametrize("form", ["packed", "tail", "padded"])
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_forward_and_gradients_equal_transformers(route: str, form: str, activation: str) -> None:
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    theirs = BertModel(BertConfig(**SIZES, hidden_act=activation)).eval()
    for parameter in theirs.parameters():
        parameter.data.normal_(0, 0.2)
    ours_activation = {"gelu_new": "gelu_tanh"}.get(activation, activation)
    config = EncoderConfig(**SIZES, hidden_act=ours_activation)
    encoder = Encoder(config).eval()
    state, missing, _ = to_ours(encoder_names(config), theirs.state_dict())
    assert not missing
    encoder.load_state_dict(state)

    inputs = Inputs(LENGTHS, WIDTH, 100)
    expected = theirs(input_ids=inputs.ids, token_type_ids=inputs.segments, attention_mask=inputs.mask.long())
    found = inputs.run(encoder, form)
    sequence = inputs.real(found.sequence_output, form)
    torch.testing.assert_close(sequence, expected.last_hidden_state[inputs.mask], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.pooled_output, expected.pooler_output, atol=1e-5, rtol=1e-5)

    weights = torch.randn(sequence.shape), torch.randn(found.pooled_output.shape)
    ((sequence * weights[0]).sum() + (found.pooled_output * weights[1]).sum()).backward()  # type: ignore[no-untyped-call]
    loss = (expected.last_hidden_state[inputs.mask] * weights[0]).sum() + (expected.pooler_output * weights[1]).sum()
    loss.backward()
    gradients, _, _ = to_ours(encoder_names(config), {n: p.grad for n, p in theirs.named_parameters()})
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None
        scale = float(gradients[name].abs().max())
        torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5 * max(scale, 1.0), rtol=1e-4, msg=name)


@pytest.mark.parametrize("form", ["packed", "padded"])
def test_equals_google_research_bert(route: str, form: str, shared: Path) -> None:
    recorded = np.load(shared / "golden/tiny/forward.npz")
    encoder, _ = open_encoder(shared / "golden/tiny")
    encoder.eval()
    assert encoder.config.hidden_act == "gelu_tanh"
    ids = torch.from_numpy(recorded["input_ids"]).long()
    inputs = Inputs(recorded["input_mask"].sum(1).tolist(), ids.shape[1], encoder.config.vocab_size)
    inputs.ids, inputs.segments = ids, torch.from_numpy(recorded["segment_ids"]).long()
    assert torch.equal(inputs.mask, torch.from_numpy(recorded["input_mask"]).bool())
    with torch.no_grad():
        found = inputs.run(encoder, form)
    layers = [recorded["embedding_output"], *recorded["layers"]]
    assert len(found.layers) == len(layers) == 4
    for ours, theirs in zip(
        (*found.layers, found.sequence_output), (*layers, recorded["sequence_output"]), strict=True
    ):
        expected = torch.from_numpy(theirs)[inputs.mask]
        torch.testing.assert_close(inputs.real(ours, form), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.pooled_output, torch.from_numpy(recorded["pooled_output"]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", ["packed", "padded"])
def test_minilm_equals_transformers(form: str) -> None:
    from transformers import BertModel

    from bertune.checkpoints.source import open_checkpoint

    with open_checkpoint("minilm") as checkpoint:
        theirs = BertModel.from_pretrained(checkpoint.path).eval()
    encoder, _ = open_encoder("minilm")
    encoder.eval()
    inputs = Inputs([9, 30, 61], 64, 30522)
    with torch.no_grad():
        expected = theirs(input_ids=inputs.ids, token_type_ids=inputs.segments, attention_mask=inputs.mask.long())
        found = inputs.run(encoder, form)
    real = inputs.real(found.sequence_output, form)
    torch.testing.assert_close(real, expected.last_hidden_state[inputs.mask], atol=1e-4, rtol=0)
    torch.testing.assert_close(found.pooled_output, expected.pooler_output, atol=1e-4, rtol=0)


def test_names_go_both_ways() -> None:
    config = EncoderConfig(**SIZES)
    state = Encoder(config).state_dict()
    names = encoder_names(config, prefix="bert.")
    back, missing, unused = to_ours(names, to_theirs(names, state))
    assert not missing
    assert not unused
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_new_weights_follow_the_original() -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**{**SIZES, "hidden_size": 128}))
    for name, weight in encoder.state_dict().items():
        if "norm" in name and name.endswith("weight"):
            assert torch.equal(weight, torch.ones_like(weight))
        elif name.endswith("bias"):
            assert not weight.any()
        else:  # truncated at two deviations, whose deviation is 0.88 of the full normal's
            assert float(weight.abs().max()) <= 0.04
            assert float(weight.std()) == pytest.approx(0.0176, rel=0.05)


def test_dropout_only_in_training_and_governed_by_the_seed(route: str) -> None:
    encoder = Encoder(EncoderConfig(**SIZES))
    inputs = Inputs(LENGTHS, WIDTH, 100)

    def output(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return inputs.run(encoder, "packed").sequence_output.detach()

    assert torch.equal(output(1), output(1))
    assert not torch.equal(output(1), output(2))
    encoder.eval()
    assert torch.equal(output(1), output(2))


def test_bfloat16_stays_near_float32(route: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**SIZES)).eval()
    inputs = Inputs(LENGTHS, WIDTH, 100)
    full = inputs.run(encoder, "packed").sequence_output
    encoder.set_compute_dtype(torch.bfloat16)
    half = inputs.run(encoder, "packed").sequence_output
    assert half.dtype == torch.bfloat16
    assert float((half.float() - full).detach().abs().mean()) < 0.02


@pytest.mark.parametrize("shape", [(700, 96), (3, 5), (1, 1), (96, 32, 3), (0, 4)])
def test_new_weights_are_drawn_again_until_they_lie_within_two_deviations(shape: tuple[int, ...]) -> None:
    expected = torch.empty(shape)
    torch.manual_seed(7)
    expected.normal_(0.0, 0.02)
    while (outside := (expected < -0.04) | (expected > 0.04)).any():
        expected = torch.where(outside, torch.empty_like(expected).normal_(0.0, 0.02), expected)
    after = torch.rand(3)
    weight = nn.Parameter(torch.empty(shape))
    torch.manual_seed(7)
    truncated_normal_(weight, 0.02)
    assert torch.equal(weight, expected)
    assert torch.equal(torch.rand(3), after)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_matrices_give_the_same(route: str, dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and not processor.features() & {"avx512bw", "bf16"}:
        pytest.skip("oneDNN multiplies bfloat16 with AVX-512 or Arm's BF16 only, which this processor lacks")
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**SIZES)).eval()
    encoder.set_compute_dtype(dtype)
    inputs = Inputs(LENGTHS, WIDTH, 100)
    with torch.inference_mode():
        plain = inputs.run(encoder, "packed")
        encoder.pack()
        assert (encoder.pooler.packed is None) != (encoder.pooler.tiles is None)
        packed = inputs.run(encoder, "packed")
    within = 1e-5 if dtype == torch.float32 else 0.05
    assert float((packed.sequence_output - plain.sequence_output).abs().max()) < within
    assert float((packed.pooled_output - plain.pooled_output).abs().max()) < within
    learning = inputs.run(encoder, "packed").sequence_output  # with gradients the weights themselves are used
    learning.sum().backward()  # type: ignore[no-untyped-call]
    assert encoder.pooler.weight.grad is None
    assert encoder.get_parameter("layers.0.feed_forward.up.weight").grad is not None
    encoder.set_compute_dtype(dtype)
    assert encoder.pooler.packed is encoder.pooler.tiles is None


def test_activation_checkpointing_changes_no_gradient(route: str) -> None:
    encoder = Encoder(EncoderConfig(**SIZES))
    inputs = Inputs(LENGTHS, WIDTH, 100)
    gradients = []
    for checkpointing in (False, True):
        encoder.activation_checkpointing = checkpointing
        encoder.zero_grad()
        torch.manual_seed(3)
        inputs.run(encoder, "packed").sequence_output.square().sum().backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 50}, "not divisible"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish'"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob is 1.0"),
    ],
)
def test_impossible_numbers_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EncoderConfig(**{**SIZES, **change})
