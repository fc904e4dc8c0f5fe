"""MPNet: BERT's layers, positions behind the padding entry, and a number for each distance added to all scores."""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS
from bertune.checkpoints.families.family import Family, Numbers, dense, must_be, weight
from bertune.checkpoints.names import Rename
from bertune.encoder.config import EncoderConfig

_LAYER = "encoder.layer.{i}."
_BUCKETS = 32
"""Their model computes with so many, whatever its config says."""
_OFFSET = 2
"""Their position table begins behind row 1, whatever the padding entry is."""

_NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.position", "embeddings.position_embeddings"),
    *dense("embeddings.norm", "embeddings.LayerNorm"),
    Rename("distances.weight", ("encoder.relative_attention_bias.weight",)),
    *dense("layers.{i}.attention.qkv", *(f"{_LAYER}attention.attn.{part}" for part in "qkv")),
    *dense("layers.{i}.attention.output", f"{_LAYER}attention.attn.o"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}attention.LayerNorm"),
    *dense("layers.{i}.feed_forward.up", f"{_LAYER}intermediate.dense"),
    *dense("layers.{i}.feed_forward.down", f"{_LAYER}output.dense"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}output.LayerNorm"),
    *dense("pooler", "pooler.dense", optional=True),
]


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    must_be(settings, "relative_attention_num_buckets", _BUCKETS, where)
    return numbers | {"max_position_embeddings": numbers["max_position_embeddings"] - _OFFSET}


def _write(config: EncoderConfig) -> Numbers:
    positions = config.max_position_embeddings + _OFFSET
    return {"max_position_embeddings": positions, "relative_attention_num_buckets": _BUCKETS}


MPNET = Family(
    "mpnet",
    "MPNet",
    "mpnet.",
    _NAMES,
    {ours: theirs for ours, theirs in KEYS.items() if ours != "type_vocab_size"},
    wiring={
        "type_vocab_size": 0,
        "position_offset": _OFFSET,
        "relative": "bias",
        "relative_buckets": _BUCKETS,
    },
    defaults={"pad_token_id": 1},
    spelling={
        "ForSequenceClassification": {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"},
        "ForMaskedLM": {
            "cls.predictions.transform.dense": "lm_head.dense",
            "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
            "cls.predictions.decoder": "lm_head.decoder",
            "cls.predictions.bias": "lm_head.bias",
        },
    },
    read=_read,
    write=_write,
    reads_position_type=False,
)
