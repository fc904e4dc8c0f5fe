"""ELECTRA: BERT's layers; in small models narrower embeddings behind a matrix; a classifier like RoBERTa's, by gelu."""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS, NAMES
from bertune.checkpoints.families.family import Family, Numbers, dense
from bertune.encoder.config import EncoderConfig


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:  # noqa: ARG001
    """The matrix is left out where the widths are equal."""
    same = numbers["embedding_size"] == numbers["hidden_size"]
    return numbers | {"embedding_size": 0 if same else numbers["embedding_size"]}


def _write(config: EncoderConfig) -> Numbers:
    return {"embedding_size": config.embedding_size or config.hidden_size}


ELECTRA = Family(
    "electra",
    "Electra",
    "electra.",
    [*NAMES, *dense("embeddings.projection", "embeddings_project")],
    {**KEYS, "embedding_size": "embedding_size"},
    wiring={"pooler_act": "gelu"},
    defaults={"embedding_size": 128, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024},
    spelling={
        "ForSequenceClassification": {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"},
        "ForMaskedLM": {
            "cls.predictions.transform.dense": "generator_predictions.dense",
            "cls.predictions.transform.LayerNorm": "generator_predictions.LayerNorm",
            "cls.predictions.bias": "generator_lm_head.bias",
            "cls.predictions.decoder": "generator_lm_head",
        },
        "ForMultipleChoice": {"pooler.dense": "sequence_summary.summary"},
    },
    read=_read,
    write=_write,
)
