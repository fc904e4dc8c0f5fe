"""RoBERTa, XLM-R and CamemBERT: BERT's layers; positions start behind the padding entry; one segment.

Classification reads the first token through a layer of the head's own, which is our pooler.
"""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.bert import KEYS, NAMES
from bertune.checkpoints.families.family import Family, Numbers
from bertune.encoder.config import EncoderConfig

_SPELLING = {
    "ForSequenceClassification": {"pooler.dense": "classifier.dense", "classifier": "classifier.out_proj"},
    "ForMaskedLM": {
        "cls.predictions.transform.dense": "lm_head.dense",
        "cls.predictions.transform.LayerNorm": "lm_head.layer_norm",
        "cls.predictions.decoder": "lm_head.decoder",
        "cls.predictions.bias": "lm_head.bias",
    },
}


def _read(numbers: Numbers, settings: Mapping[str, Any], where: str) -> Numbers:  # noqa: ARG001
    """Their table holds rows for padding and before, which no token uses."""
    offset = numbers["pad_token_id"] + 1
    positions = numbers["max_position_embeddings"] - offset
    return numbers | {"position_offset": offset, "max_position_embeddings": positions}


def _write(config: EncoderConfig) -> Numbers:
    return {"max_position_embeddings": config.max_position_embeddings + config.position_offset}


def _family(name: str, classes: str) -> Family:
    return Family(
        name,
        classes,
        "roberta.",
        NAMES,
        KEYS,
        defaults={"pad_token_id": 1, "max_position_embeddings": 512},
        spelling=_SPELLING,
        read=_read,
        write=_write,
    )


ROBERTA = _family("roberta", "Roberta")
XLM_ROBERTA = _family("xlm-roberta", "XLMRoberta")
CAMEMBERT = _family("camembert", "Camembert")
