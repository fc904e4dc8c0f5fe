"""ALBERT: one BERT layer used again and again, and narrow embeddings behind a matrix."""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS
from bertune.checkpoints.families.family import Family, Numbers, dense, must_be, weight
from bertune.encoder.config import EncoderConfig

_LAYER = "encoder.albert_layer_groups.{i}.albert_layers.0."

_NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.position", "embeddings.position_embeddings"),
    weight("embeddings.segment", "embeddings.token_type_embeddings"),
    *dense("embeddings.norm", "embeddings.LayerNorm"),
    *dense("embeddings.projection", "encoder.embedding_hidden_mapping_in"),
    *dense("layers.{i}.attention.qkv", *(f"{_LAYER}attention.{part}" for part in ("query", "key", "value"))),
    *dense("layers.{i}.attention.output", f"{_LAYER}attention.dense"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}attention.LayerNorm"),
    *dense("layers.{i}.feed_forward.up", f"{_LAYER}ffn"),
    *dense("layers.{i}.feed_forward.down", f"{_LAYER}ffn_output"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}full_layer_layer_norm"),
    *dense("pooler", "pooler", optional=True),
]

_WORDS = {
    "cls.predictions.transform.dense": "predictions.dense",
    "cls.predictions.transform.LayerNorm": "predictions.LayerNorm",
    "cls.predictions.decoder": "predictions.decoder",
    "cls.predictions.bias": "predictions.bias",
}


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    must_be(settings, "num_hidden_groups", 1, where)
    must_be(settings, "inner_group_num", 1, where)
    return numbers


def _write(config: EncoderConfig) -> Numbers:  # noqa: ARG001
    return {"num_hidden_groups": 1, "inner_group_num": 1}


ALBERT = Family(
    "albert",
    "Albert",
    "albert.",
    _NAMES,
    {**KEYS, "embedding_size": "embedding_size"},
    wiring={"shared_layers": True},
    defaults={
        "embedding_size": 128,
        "hidden_size": 4096,
        "num_attention_heads": 64,
        "intermediate_size": 16384,
        "hidden_act": "gelu_new",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    spelling={"ForMaskedLM": _WORDS, "ForPreTraining": _WORDS},
    read=_read,
    write=_write,
)
