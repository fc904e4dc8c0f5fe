"""ModernBERT: rotary positions, gated feed-forward, normalised inputs, local layers between global ones, no biases.

Its heads, on single tokens too, begin with a layer, gelu and a normalisation: our pooler.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.family import ACTIVATIONS, Family, Numbers, activation_of, must_be, weight
from bertune.checkpoints.families.rotary import GLOBAL, LOCAL, global_layers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_NAMES = [
    weight("embeddings.word", "embeddings.tok_embeddings"),
    weight("embeddings.norm", "embeddings.norm"),
    weight("layers.{i}.attention_norm", "layers.{i}.attn_norm"),
    weight("layers.{i}.attention.qkv", "layers.{i}.attn.Wqkv"),
    weight("layers.{i}.attention.output", "layers.{i}.attn.Wo"),
    weight("layers.{i}.feed_forward_norm", "layers.{i}.mlp_norm"),
    weight("layers.{i}.feed_forward.up", "layers.{i}.mlp.Wi"),
    weight("layers.{i}.feed_forward.down", "layers.{i}.mlp.Wo"),
    weight("norm", "final_norm"),
    weight("pooler", "pooler.dense", optional=True),
    weight("pooler_norm", "pooler.norm", optional=True),
]

_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "hidden_dropout_prob": "mlp_dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "max_position_embeddings": "max_position_embeddings",
    "initializer_range": "initializer_range",
    "layer_norm_eps": "norm_eps",
    "pad_token_id": "pad_token_id",
}
_POOLINGS = {"cls": "first", "mean": "mean"}


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    for bias in ("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"):
        must_be(settings, bias, False, where)
    pooling = settings.get("classifier_pooling", "cls")
    if pooling not in _POOLINGS:
        raise InputError(f"{where}: classifier_pooling is {pooling!r}; known: {', '.join(_POOLINGS)}")
    types = settings.get("layer_types")
    if types is None:
        first, every = 0, int(settings.get("global_attn_every_n_layers", 3))
    elif isinstance(types, list) and len(types) == numbers["num_hidden_layers"]:
        first, every = global_layers(types, where)
    else:
        raise InputError(f"{where}: layer_types must be a list with a kind for each layer")
    everywhere = _base(settings, GLOBAL, "global_rope_theta", 160_000.0, where)
    return numbers | {
        "local_window": settings.get("local_attention", 128) // 2,
        "rotary_base": everywhere,
        "local_rotary_base": _base(settings, LOCAL, "local_rope_theta", 10_000.0, where),
        "global_first": first,
        "global_every": every,
        "pooling": _POOLINGS[pooling],
        "pooler_act": activation_of(settings, "classifier_activation", where),
    }


def _base(settings: Mapping[str, Any], kind: str, older: str, default: float, where: str) -> float:
    """A rotation's base: from transformers 5 on by kind of layer, before under a key of its own."""
    rope = (settings.get("rope_parameters") or {}).get(kind) or {}
    must_be(rope, "rope_type", "default", f"{where}, rope_parameters of {kind}")
    return float(rope.get("rope_theta", settings.get(older, default)))


def _write(config: EncoderConfig) -> Numbers:
    act = next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.pooler_act)
    types = [LOCAL if config.is_local(i) else GLOBAL for i in range(config.num_hidden_layers)]
    return {
        **({"layer_types": types} if config.global_first else {}),
        "embedding_dropout": config.hidden_dropout_prob,
        "local_attention": 2 * config.local_window,
        "global_attn_every_n_layers": config.global_every,
        "global_rope_theta": config.rotary_base,
        "local_rope_theta": config.local_rotary_base,
        "classifier_pooling": next(theirs for theirs, ours in _POOLINGS.items() if ours == config.pooling),
        "classifier_activation": act,
        **dict.fromkeys(("norm_bias", "attention_bias", "mlp_bias", "classifier_bias"), False),
    }


MODERNBERT = Family(
    "modernbert",
    "ModernBert",
    "model.",
    _NAMES,
    _KEYS,
    activation="hidden_activation",
    wiring={"type_vocab_size": 0, "biases": False, "pre_norm": True, "gated": True, "pooler_norm": True},
    defaults={
        "intermediate_size": 1152,
        "num_hidden_layers": 22,
        "max_position_embeddings": 8192,
        "norm_eps": 1e-5,
        "pad_token_id": 50283,
        "attention_dropout": 0.0,
        "mlp_dropout": 0.0,
    },
    spelling={
        "": {"pooler.dense": "head.dense", "pooler.norm": "head.norm"},
        "ForMaskedLM": {"cls.predictions.bias": "decoder.bias", "cls.predictions.decoder": "decoder"},
        "ForQuestionAnswering": {"qa_outputs": "classifier"},
    },
    read=_read,
    write=_write,
    reads_position_type=False,
)
