"""DeBERTa-v2, DeBERTa-v3 and mDeBERTa: queries and keys also meet vectors of the distance between their tokens.

The largest of DeBERTa-v2 have a convolution beside the first layer.
The encoder alone has no pooler; heads on whole sequences have one of their own.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS, NAMES
from bertune.checkpoints.families.family import ACTIVATIONS, Family, Numbers, activation_of, dense, must_be
from bertune.checkpoints.names import Rename
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_SELF = "encoder.layer.{i}.attention.self."

_NAMES = [
    *(name for name in NAMES if ".attention.qkv" not in name.ours),
    *dense("layers.{i}.attention.qkv", *(f"{_SELF}{part}_proj" for part in ("query", "key", "value"))),
    *dense("layers.{i}.attention.distances.key", f"{_SELF}pos_key_proj"),
    *dense("layers.{i}.attention.distances.query", f"{_SELF}pos_query_proj"),
    Rename("distances.weight", ("encoder.rel_embeddings.weight",)),
    *dense("distances.norm", "encoder.LayerNorm"),
    *dense("convolution", "encoder.conv.conv"),
    *dense("convolution.norm", "encoder.conv.LayerNorm"),
]
_TERMS = ("c2p", "p2c")


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    if not settings.get("relative_attention"):
        raise InputError(f"{where}: relative_attention is not true; only DeBERTa with relative attention is supported")
    must_be(settings, "embedding_size", numbers["hidden_size"], where)
    must_be(settings, "attention_head_size", numbers["hidden_size"] // numbers["num_attention_heads"], where)
    must_be(settings, "pooler_hidden_size", numbers["hidden_size"], where)
    found = settings.get("pos_att_type") or []
    terms = [term.strip() for term in found.lower().split("|")] if isinstance(found, str) else list(found)
    if not terms or not {*terms} <= {*_TERMS}:
        raise InputError(f"{where}: pos_att_type is {found!r}; it must name c2p, p2c or both")
    norm = {part.strip() for part in str(settings.get("norm_rel_ebd", "none")).lower().split("|")}
    reach = settings.get("max_relative_positions", -1)
    return numbers | {
        "convolution": max(settings.get("conv_kernel_size", 0), 0),
        "convolution_groups": settings.get("conv_groups", 1),
        "convolution_act": activation_of({"conv_act": "tanh", **settings}, "conv_act", where),
        "relative_terms": tuple(term for term in _TERMS if term in terms),
        "relative_buckets": max(settings.get("position_buckets", -1), 0),
        "relative_reach": reach if reach >= 1 else numbers["max_position_embeddings"],
        "relative_shared": bool(settings.get("share_att_key", False)),
        "relative_norm": "layer_norm" in norm,
        "absolute_positions": bool(settings.get("position_biased_input", True)),
        "pooler_act": activation_of(settings, "pooler_hidden_act", where),
    }


def _write(config: EncoderConfig) -> Numbers:
    convolution = {
        "conv_kernel_size": config.convolution,
        "conv_groups": config.convolution_groups,
        "conv_act": _their_activation(config.convolution_act),
    }
    return (convolution if config.convolution else {}) | {
        "relative_attention": True,
        "pos_att_type": list(config.relative_terms),
        "position_buckets": config.relative_buckets or -1,
        "max_relative_positions": config.relative_reach,
        "share_att_key": config.relative_shared,
        "norm_rel_ebd": "layer_norm" if config.relative_norm else "none",
        "position_biased_input": config.absolute_positions,
        "pooler_hidden_act": _their_activation(config.pooler_act),
        "pooler_hidden_size": config.hidden_size,
        "pooler_dropout": 0.0,
    }


def _their_activation(name: str) -> str:
    return next(theirs for theirs, ours in ACTIVATIONS.items() if ours == name)


DEBERTA_V2 = Family(
    "deberta-v2",
    "DebertaV2",
    "deberta.",
    _NAMES,
    KEYS,
    wiring={"relative": "projected"},
    defaults={
        "hidden_size": 1536,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "intermediate_size": 6144,
        "type_vocab_size": 0,
        "layer_norm_eps": 1e-7,
    },
    spelling={"": {"pooler.dense": "pooler.dense"}},
    other_names={
        "lm_predictions.lm_head.dense": "cls.predictions.transform.dense",
        "lm_predictions.lm_head.LayerNorm": "cls.predictions.transform.LayerNorm",
        "lm_predictions.lm_head.bias": "cls.predictions.bias",
    },
    read=_read,
    write=_write,
    reads_position_type=False,
)
