"""Which family a config.json without `model_type` is of: by its architectures, then by the tensors' names."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bertune.checkpoints.families import FAMILIES
from bertune.errors import InputError

_PREFIXES = {
    "roberta.": "roberta",
    "lm_head.": "roberta",
    "distilbert.": "distilbert",
    "transformer.layer.": "distilbert",
    "vocab_transform.": "distilbert",
    "electra.": "electra",
    "embeddings_project.": "electra",
    "discriminator_predictions.": "electra",
    "albert.": "albert",
    "encoder.albert_layer_groups.": "albert",
    "embeddings.tok_embeddings.": "modernbert",
    "model.embeddings.tok_embeddings.": "modernbert",
    "bert.": "bert",
    "cls.predictions.": "bert",
}
"""Beginnings of tensors' names that only one family has; RoBERTa's are XLM-R's and CamemBERT's too, which share its
wiring."""


def family_named_by(settings: Mapping[str, Any], names: Collection[str], folder: Path) -> str:
    """The family's `model_type`.

    BERT and RoBERTa without a head name their tensors alike, but count positions differently: there the config's
    padding entry, segments and positions must tell, or the tokenizer's files.

    Raises:
        InputError: nothing tells, or what tells disagrees.
    """
    architectures = settings.get("architectures")
    for name in architectures if isinstance(architectures, list) else []:
        known = sorted(FAMILIES.values(), key=lambda family: -len(family.classes))
        family = next((one for one in known if str(name).startswith(one.classes)), None)
        if family is None:
            raise InputError(f"{folder}: the config has no model_type, and the architecture {name!r} is not known")
        return family.name
    found = {family for start, family in _PREFIXES.items() if any(name.startswith(start) for name in names)}
    if not found and any(name.startswith("embeddings.word_embeddings") for name in names):
        found = _bert_or_roberta(settings, folder)
    if len(found) == 1:
        return found.pop()
    what = f"its tensors fit {' and '.join(sorted(found))}" if found else "nothing in the folder identifies the family"
    raise InputError(
        f"{folder}: the config has neither model_type nor architectures, and {what}; "
        f'add "model_type" to it, one of: {", ".join(FAMILIES)}'
    )


def _bert_or_roberta(settings: Mapping[str, Any], folder: Path) -> set[str]:
    """What the numbers and the tokenizer's files say; both where they disagree or say nothing."""
    roberta = (
        settings.get("pad_token_id") == 1,
        settings.get("type_vocab_size") == 1,
        settings.get("max_position_embeddings") in {514, 130, 258, 1026},
        (folder / "merges.txt").is_file() or (folder / "sentencepiece.bpe.model").is_file(),
    )
    bert = (
        settings.get("pad_token_id") == 0,
        settings.get("type_vocab_size") == 2,
        settings.get("max_position_embeddings") == 512,
        (folder / "vocab.txt").is_file(),
    )
    named = {name for name, signs in (("roberta", roberta), ("bert", bert)) if any(signs)}
    return named or {"bert", "roberta"}
