"""nomic-BERT: BERT's order of norms, rotary positions, a gated feed-forward part, no biases but the norms'.

Tensors have the names of the original program, which transformers reads and writes too.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS
from bertune.checkpoints.families.family import Family, Numbers, dense, must_be, weight
from bertune.checkpoints.families.rotary import rotary_json, rotary_numbers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_LAYER = "encoder.layers.{i}."

_NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.segment", "embeddings.token_type_embeddings"),
    *dense("embeddings.norm", "emb_ln"),
    weight("layers.{i}.attention.qkv", f"{_LAYER}attn.Wqkv"),
    weight("layers.{i}.attention.output", f"{_LAYER}attn.out_proj"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}norm1"),
    weight("layers.{i}.feed_forward.up", f"{_LAYER}mlp.fc12", f"{_LAYER}mlp.fc11"),
    weight("layers.{i}.feed_forward.down", f"{_LAYER}mlp.fc2"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}norm2"),
    *dense("pooler", "pooler.dense", optional=True),
]
_BASE = 1000.0
_ORIGINAL_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_dropout_prob": "resid_pdrop",
    "attention_probs_dropout_prob": "attn_pdrop",
}
"""The original program's config.json names these otherwise."""
_ORIGINAL_FORM = {
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "use_rms_norm": False,
    "parallel_block": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "activation_function": "swiglu",
}
"""What the original program can do otherwise, and we compute."""


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    if settings.get("moe_every_n_layers"):
        raise InputError(
            f"{where}: a mixture of experts (moe_every_n_layers) as in nomic-embed-text-v2-moe, is not supported: take "
            "nomic-embed-text-v1.5"
        )
    for key, value in _ORIGINAL_FORM.items():
        must_be(settings, key, value, where)
    original = {ours: settings[key] for ours, key in _ORIGINAL_KEYS.items() if key in settings}
    numbers = {**numbers, **original}
    must_be(settings, "head_dim", numbers["hidden_size"] // numbers["num_attention_heads"], where)
    return numbers | rotary_numbers(settings, _BASE, where, "rotary_emb_base")


def _write(config: EncoderConfig) -> Numbers:
    return rotary_json(config)


NOMIC_BERT = Family(
    "nomic_bert",
    "NomicBert",
    "nomic_bert.",
    _NAMES,
    KEYS,
    wiring={"gated": True, "unbiased": ("attention", "up", "down")},
    defaults={
        "hidden_act": "silu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "max_position_embeddings": 2048,
    },
    spelling={"ForMaskedLM": {"cls.predictions.transform.LayerNorm": "cls.predictions.transform.layer_norm"}},
    read=_read,
    write=_write,
    reads_position_type=False,
    older_prefix="bert.",
)
