"""Every family and every head as ONNX gives PyTorch's numbers, whatever shares the batch and however it is padded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bertune.checkpoints.families import FAMILIES
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError
from bertune.export.encoder import FAMILIES as EXPORTED
from bertune.export.files import save_graph
from bertune.export.network import network_model
from bertune.export.quantized import Int8Products
from bertune.export.running import pytorch_rows
from bertune.features import Features, Ragged
from bertune.inference.onnx_model import OnnxModel, padded_inputs
from bertune.network import Network
from bertune.tasks.masking.head import PretrainingHead
from bertune.tasks.shared.heads import PooledHead, PoolingHead, TokenHead
from bertune.tasks.shared.layers import LayerMix, LayersHead
from bertune.tasks.shared.pair_head import PairHead
from bertune.tasks.squad.head import SpanHead

VOCABULARY = 50
LENGTHS = (5, 1, 17, 2, 9, 24)
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "initializer_range": 0.3,
}
HEADS: dict[str, tuple[Callable[[EncoderConfig], Any], str]] = {
    "pooled": (lambda config: PooledHead(config, 3), "ForSequenceClassification"),
    "choices": (lambda config: PooledHead(config, 1), "ForMultipleChoice"),
    "tokens": (lambda config: TokenHead(config, 4), "ForTokenClassification"),
    "spans": (SpanHead, "ForQuestionAnswering"),
    "mix, tokens": (lambda config: LayersHead(config, "mix", 3, tokens=True), "ForTokenClassification"),
    "mix, first": (lambda config: LayersHead(config, "mix", 3, tokens=False), "ForSequenceClassification"),
    "pair": (lambda config: PairHead(config, 3), "ForSequenceClassification"),
    "last4": (lambda config: LayersHead(config, "last4", 2, tokens=True), "ForQuestionAnswering"),
    "mean": (lambda config: PoolingHead("mean"), "Model"),
    "cls": (lambda config: PoolingHead("cls", normalize=False), "Model"),
    "mean of a mix": (lambda config: PoolingHead("mean", mix=LayerMix(config, "mix")), "Embedding"),
    "words": (lambda config: PretrainingHead(config, next_sentence=True), "ForPreTraining"),
}
MODERN: dict[str, Any] = {
    **{"type_vocab_size": 0, "biases": False, "pre_norm": True, "gated": True, "pooler_norm": True},
    **{"rotary_base": 160000.0, "local_rotary_base": 10000.0, "local_window": 4, "global_every": 3},
}
DEBERTA: dict[str, Any] = {
    **{"type_vocab_size": 0, "pooler_act": "gelu", "absolute_positions": False, "relative": "projected"},
    **{"relative_terms": ("c2p", "p2c"), "relative_buckets": 8, "relative_reach": 32},
    **{"relative_shared": True, "relative_norm": True},
}
SHAW: dict[str, Any] = {"relative": "layer", "relative_reach": 32, "absolute_positions": False}
EURO: dict[str, Any] = {
    **{"type_vocab_size": 0, "pre_norm": True, "gated": True, "norm": "rms", "embedding_norm": False},
    **{"unbiased": ("attention", "up", "down"), "pooler_act": "gelu", "hidden_act": "silu", "rotary_base": 10000.0},
}
WIRINGS: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"position_offset": 2, "type_vocab_size": 1, "pad_token_id": 1},
    "distilbert": {"type_vocab_size": 0, "pooler_act": "relu"},
    "electra": {"embedding_size": 8, "pooler_act": "gelu"},
    "albert": {"embedding_size": 8, "shared_layers": True, "hidden_act": "gelu_tanh"},
    "modernbert": MODERN,
    "modernbert, mean": {**MODERN, "pooling": "mean", "pooler_act": "gelu"},
    "mpnet": {"type_vocab_size": 0, "position_offset": 2, "relative": "bias", "relative_buckets": 32},
    "deberta-v2": DEBERTA,
    "deberta-v2, no buckets, own projections": {
        **DEBERTA,
        **{"relative_buckets": 0, "relative_shared": False, "relative_norm": False, "type_vocab_size": 2},
    },
    "deberta-v2, c2p": {**DEBERTA, "relative_terms": ("c2p",), "absolute_positions": True},
    "deberta-v2, p2c": {**DEBERTA, "relative_terms": ("p2c",), "relative_shared": False},
    "bert, relative_key": {**SHAW, "relative_terms": ("c2p",)},
    "bert, relative_key_query": {**SHAW, "relative_terms": ("c2p", "p2c")},
    "eurobert": {**EURO, "pooling": "late", "key_value_heads": 1},
    "eurobert, first": EURO,
    "ultrabert": {
        **EURO,
        **{"pooler": False, "local_window": 3, "local_rotary_base": 500.0, "global_every": 3, "global_first": 2},
    },
    "deberta-v2, convolution": {**DEBERTA, "convolution": 3, "convolution_groups": 2, "convolution_act": "tanh"},
    "gte, scaled positions": {"gated": True, "gate_last": True, "rotary_base": 20000.0, "rotary_scale": 0.4},
    "nomic_bert": {"gated": True, "unbiased": ("attention", "up", "down"), "hidden_act": "silu", "rotary_base": 1000.0},
    "gte": {"gated": True, "gate_last": True, "unbiased": ("up",), "type_vocab_size": 1, "rotary_base": 160000.0},
    "bert, relu, wide heads": {"hidden_act": "relu", "num_attention_heads": 1},
}


def network_of(wiring: str, head: str = "pooled") -> Network:
    """A random network in which no weight is trivial."""
    torch.manual_seed(3)
    config = EncoderConfig(family=wiring.partition(",")[0], **{**SIZES, **WIRINGS[wiring]})
    network = Network(Encoder(config), HEADS[head][0](config)).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network


def features_of(network: Network, lengths: tuple[int, ...] = LENGTHS) -> Features:
    rng = np.random.default_rng(5)
    kinds = max(1, network.encoder.config.type_vocab_size)
    ids = Ragged.from_lists([rng.integers(0, VOCABULARY, length, np.int32) for length in lengths])
    segments = Ragged.from_lists([np.sort(rng.integers(0, kinds, length, np.int32)) for length in lengths])
    return Features(ids, segments, np.arange(len(lengths), dtype=np.int32))


def exported(network: Network, head: str, folder: Path) -> OnnxModel:
    import onnx

    path = folder / "model.onnx"
    save_graph(network_model(network, HEADS[head][1]), path)
    onnx.checker.check_model(str(path), full_check=True)
    return OnnxModel(path)


def assert_equal(model: OnnxModel, network: Network, features: Features) -> None:
    expected = pytorch_rows(network, features)
    for found in (model.rows(features), model.run(features, np.arange(len(features)))):
        assert len(found) == len(expected)
        for one, two in zip(found, expected, strict=True):
            assert one.shape == two.shape
            np.testing.assert_allclose(one, two, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("wiring", WIRINGS)
@pytest.mark.parametrize("head", ["pooled", "tokens"])
def test_every_family_gives_the_same_logits(wiring: str, head: str, tmp_path: Path) -> None:
    network = network_of(wiring, head)
    assert_equal(exported(network, head, tmp_path), network, features_of(network))


@pytest.mark.parametrize("wiring", WIRINGS)
def test_every_family_in_8_bits_is_near(wiring: str, tmp_path: Path) -> None:
    network, products = network_of(wiring, "tokens"), Int8Products()
    save_graph(network_model(network, HEADS["tokens"][1], products), tmp_path / "model.onnx")
    features = features_of(network)
    found = np.concatenate(OnnxModel(tmp_path / "model.onnx").rows(features))
    expected = np.concatenate(pytorch_rows(network, features))
    assert not np.array_equal(found, expected)
    assert np.abs(found - expected).mean() < 0.1 * np.abs(expected).mean()
    parts = (5 if network.encoder.config.gated else 4) + 2  # queries, keys and values are three products
    assert len(products.names) == network.encoder.config.stored_layers * parts + 1  # and the table of words


@pytest.mark.parametrize("head", HEADS)
def test_every_head_gives_the_same_output(head: str, tmp_path: Path) -> None:
    network = network_of("bert", head)
    assert_equal(exported(network, head, tmp_path), network, features_of(network))


@pytest.mark.parametrize("wiring", ["bert", "mpnet", "deberta-v2", "bert, relative_key_query"])
@pytest.mark.parametrize("lengths", [(1,), (32,), (32, 1), (7, 7, 7)])
def test_lengths_are_free(wiring: str, lengths: tuple[int, ...], tmp_path: Path) -> None:
    network = network_of(wiring, "tokens")
    assert_equal(exported(network, "tokens", tmp_path), network, features_of(network, lengths))


@pytest.mark.parametrize("wiring", ["bert", "modernbert", "nomic_bert"])
def test_padding_on_the_left_changes_nothing(wiring: str, tmp_path: Path) -> None:
    network = network_of(wiring)
    model, features = exported(network, "pooled", tmp_path), features_of(network)
    feed = padded_inputs(features, np.arange(len(features)))
    turned = {
        name: np.stack([np.roll(row, -length) for row, length in zip(values, LENGTHS, strict=True)])
        for name, values in feed.items()
        if name in model.inputs
    }
    expected = np.stack(pytorch_rows(network, features))
    np.testing.assert_allclose(model.session.run(None, turned)[0], expected, atol=2e-5)


def test_inputs_and_outputs_are_named_as_hugging_face_names_them(tmp_path: Path) -> None:
    found = exported(network_of("bert", "spans"), "spans", tmp_path)
    assert list(found.inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    assert found.inputs["input_ids"] == ["batch", "length"]
    assert found.outputs == ["start_logits", "end_logits"]
    found = exported(network_of("roberta", "mean"), "mean", tmp_path)
    assert list(found.inputs) == ["input_ids", "attention_mask"]
    assert found.outputs == ["sentence_embedding"]
    found = exported(network_of("bert", "choices"), "choices", tmp_path)
    assert found.inputs["input_ids"] == ["batch", "choices", "length"]


def test_choices_come_side_by_side(tmp_path: Path) -> None:
    network = network_of("bert", "choices")
    model, features = exported(network, "choices", tmp_path), features_of(network)
    feed = padded_inputs(features, np.arange(6))
    logits = model.session.run(None, {name: values.reshape(2, 3, -1) for name, values in feed.items()})[0]
    np.testing.assert_allclose(logits.reshape(6, 1), np.stack(pytorch_rows(network, features)), atol=2e-5)


def test_a_large_graph_keeps_its_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    network = network_of("bert")
    save_graph(network_model(network, "ForSequenceClassification"), tmp_path / "model.onnx", largest=1000)
    assert (tmp_path / "model.onnx_data").stat().st_size > 1000
    assert_equal(OnnxModel(tmp_path / "model.onnx"), network, features_of(network))


def test_every_known_family_is_exported() -> None:
    assert set(EXPORTED) == set(FAMILIES)
    assert {wiring.partition(",")[0] for wiring in WIRINGS} >= set(FAMILIES) - {"xlm-roberta", "camembert"}


def test_another_family_is_refused_by_name() -> None:
    network = network_of("bert")
    object.__setattr__(network.encoder.config, "family", "longformer")
    with pytest.raises(InputError, match="'longformer' are not supported; bert, roberta"):
        network_model(network, "ForSequenceClassification")
