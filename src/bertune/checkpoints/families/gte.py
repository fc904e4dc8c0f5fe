"""GTE (Alibaba's "new-impl", at first `new`): rotary positions and a gated feed-forward part in BERT's order of norms.

Tensors have the names of the original program, which transformers reads and writes too.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS
from bertune.checkpoints.families.family import Family, Numbers, dense, must_be, weight
from bertune.checkpoints.families.rotary import rotary_json, rotary_numbers
from bertune.encoder.config import EncoderConfig

_LAYER = "encoder.layer.{i}."

_NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.segment", "embeddings.token_type_embeddings"),
    *dense("embeddings.norm", "embeddings.LayerNorm"),
    *dense("layers.{i}.attention.qkv", f"{_LAYER}attention.qkv_proj"),
    *dense("layers.{i}.attention.output", f"{_LAYER}attention.o_proj"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}attn_ln"),
    weight("layers.{i}.feed_forward.up", f"{_LAYER}mlp.up_gate_proj"),
    *dense("layers.{i}.feed_forward.down", f"{_LAYER}mlp.down_proj"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}mlp_ln"),
    *dense("pooler", "pooler.dense", optional=True),
]
_BASE, _ORIGINAL_BASE = 160_000.0, 10_000.0
_ORIGINAL_FORM = {"layer_norm_type": "layer_norm", "position_embedding_type": "rope", "pack_qkv": True}
"""What the original program can do otherwise, and we compute."""


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    if settings.get("model_type") == "new":
        for key, value in _ORIGINAL_FORM.items():
            must_be(settings, key, value, where)
        must_be(settings, "logn_attention_scale", False, where)
        size = numbers["hidden_size"] // numbers["num_attention_heads"]
        return numbers | rotary_numbers(settings, _ORIGINAL_BASE, where, "rope_theta", ntk_size=size)
    return numbers | rotary_numbers(settings, _BASE, where, "rope_theta")


def _write(config: EncoderConfig) -> Numbers:
    return rotary_json(config)


GTE = Family(
    "gte",
    "Gte",
    "gte.",
    _NAMES,
    KEYS,
    wiring={"gated": True, "gate_last": True, "gated_dropout": True, "unbiased": ("up",)},
    defaults={
        "max_position_embeddings": 8192,
        "attention_probs_dropout_prob": 0.0,
        "type_vocab_size": 1,
        "pad_token_id": 1,
    },
    spelling={
        "ForMaskedLM": {
            "cls.predictions.transform.dense": "lm_head.dense",
            "cls.predictions.transform.LayerNorm": "lm_head.norm",
            "cls.predictions.bias": "lm_head.decoder.bias",
            "cls.predictions.decoder": "lm_head.decoder",
        }
    },
    read=_read,
    write=_write,
    reads_position_type=False,
    older_prefix="new.",
)
