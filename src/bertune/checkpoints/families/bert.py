"""BERT, and all that shares its wiring and names: MiniLM, TinyBERT, whole-word-masked and Chinese BERT, MacBERT.

With relative positions too (`position_embedding_type`), as transformers 4 computes them; transformers 5 does not.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.family import Family, Numbers, dense, weight
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

_LAYER = "encoder.layer.{i}."

NAMES = [
    weight("embeddings.word", "embeddings.word_embeddings"),
    weight("embeddings.position", "embeddings.position_embeddings"),
    weight("embeddings.segment", "embeddings.token_type_embeddings"),
    *dense("embeddings.norm", "embeddings.LayerNorm"),
    *dense("layers.{i}.attention.qkv", *(f"{_LAYER}attention.self.{part}" for part in ("query", "key", "value"))),
    *dense("layers.{i}.attention.output", f"{_LAYER}attention.output.dense"),
    *dense("layers.{i}.attention_norm", f"{_LAYER}attention.output.LayerNorm"),
    *dense("layers.{i}.feed_forward.up", f"{_LAYER}intermediate.dense"),
    *dense("layers.{i}.feed_forward.down", f"{_LAYER}output.dense"),
    *dense("layers.{i}.feed_forward_norm", f"{_LAYER}output.LayerNorm"),
    *dense("pooler", "pooler.dense", optional=True),
]

KEYS = {
    key: key
    for key in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "max_position_embeddings",
        "type_vocab_size",
        "initializer_range",
        "layer_norm_eps",
        "pad_token_id",
    )
}

_RELATIVE = {"relative_key": ("c2p",), "relative_key_query": ("c2p", "p2c")}


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:
    kind = settings.get("position_embedding_type", "absolute")
    if kind == "absolute":
        return numbers
    if kind not in _RELATIVE:
        raise InputError(
            f"{where}: position_embedding_type is {kind!r}; known: 'absolute', {', '.join(map(repr, _RELATIVE))}"
        )
    more = {
        "relative": "layer",
        "relative_terms": _RELATIVE[kind],
        "relative_reach": numbers["max_position_embeddings"],
    }
    return numbers | more | {"absolute_positions": False}


def _write(config: EncoderConfig) -> Numbers:
    kind = next((kind for kind, terms in _RELATIVE.items() if terms == config.relative_terms), None)
    return {} if kind is None else {"position_embedding_type": kind}


BERT = Family(
    "bert",
    "Bert",
    "bert.",
    [
        *NAMES,
        weight("layers.{i}.attention.distances", f"{_LAYER}attention.self.distance_embedding"),
    ],
    KEYS,
    read=_read,
    write=_write,
    reads_position_type=False,
)
