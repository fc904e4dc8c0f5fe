"""EuroBERT: rotary positions, RMSNorm before attention and feed-forward, SwiGLU, keys and values shared by heads.

Heads on whole sequences apply their layer to every token, and by default take the mean of the logits; that is the head
on the mean of the layer's outputs, as the last step is linear.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS
from bertune.checkpoints.families.family import Family, Numbers, dense, must_be, weight
from bertune.checkpoints.families.rotary import rotary_json, rotary_numbers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_LAYER = "layers.{i}."

_NAMES = [
    weight("embeddings.word", "embed_tokens"),
    weight("layers.{i}.attention_norm", f"{_LAYER}input_layernorm"),
    weight("layers.{i}.attention.qkv", *(f"{_LAYER}self_attn.{part}_proj" for part in "qkv")),
    weight("layers.{i}.attention.output", f"{_LAYER}self_attn.o_proj"),
    weight("layers.{i}.feed_forward_norm", f"{_LAYER}post_attention_layernorm"),
    weight("layers.{i}.feed_forward.up", f"{_LAYER}mlp.gate_proj", f"{_LAYER}mlp.up_proj"),
    weight("layers.{i}.feed_forward.down", f"{_LAYER}mlp.down_proj"),
    weight("norm", "norm"),
    *dense("pooler", "pooler.dense", optional=True),
]
_POOLINGS = {"late": "late", "bos": "first", "mean": "mean"}
_BASE = 10_000.0
_OTHER_KEYS = {"layer_norm_eps": "rms_norm_eps", "attention_probs_dropout_prob": "attention_dropout"}
_WITHOUT = ("type_vocab_size", "hidden_dropout_prob")


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    for bias in ("attention_bias", "mlp_bias"):
        must_be(settings, bias, False, where)
    heads = numbers["num_attention_heads"]
    must_be(settings, "head_dim", numbers["hidden_size"] // heads, where)
    pooling = settings.get("classifier_pooling", settings.get("clf_pooling", "late"))  # the second is older
    if pooling not in _POOLINGS:
        raise InputError(f"{where}: classifier_pooling is {pooling!r}; known: {', '.join(_POOLINGS)}")
    shared = settings.get("num_key_value_heads", heads)
    return numbers | {
        **rotary_numbers(settings, _BASE, where, "rope_theta"),
        "key_value_heads": 0 if shared == heads else shared,
        "pooling": _POOLINGS[pooling],
    }


def _write(config: EncoderConfig) -> Numbers:
    return {
        **rotary_json(config),
        "num_key_value_heads": config.key_value_heads or config.num_attention_heads,
        "classifier_pooling": next(theirs for theirs, ours in _POOLINGS.items() if ours == config.pooling),
        **dict.fromkeys(("attention_bias", "mlp_bias"), False),
    }


EUROBERT = Family(
    "eurobert",
    "EuroBert",
    "model.",
    _NAMES,
    {ours: _OTHER_KEYS.get(ours, key) for ours, key in KEYS.items() if ours not in _WITHOUT},
    wiring={
        "type_vocab_size": 0,
        "hidden_dropout_prob": 0.0,
        "pre_norm": True,
        "gated": True,
        "norm": "rms",
        "embedding_norm": False,
        "unbiased": ("attention", "up", "down"),
        "pooler_act": "gelu",
    },
    defaults={
        "hidden_act": "silu",
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "attention_dropout": 0.0,
        "pad_token_id": 128001,
    },
    spelling={"": {"pooler.dense": "dense"}, "ForMaskedLM": {"cls.predictions.decoder": "lm_head"}},
    read=_read,
    write=_write,
    reads_position_type=False,
)
