"""Families of encoders that share one implementation: each is numbers of its config and one list of names."""

from bertune.checkpoints.families.albert import ALBERT
from bertune.checkpoints.families.bert import BERT
from bertune.checkpoints.families.deberta import DEBERTA_V2
from bertune.checkpoints.families.distilbert import DISTILBERT
from bertune.checkpoints.families.electra import ELECTRA
from bertune.checkpoints.families.eurobert import EUROBERT
from bertune.checkpoints.families.family import Family
from bertune.checkpoints.families.gte import GTE
from bertune.checkpoints.families.modernbert import MODERNBERT
from bertune.checkpoints.families.mpnet import MPNET
from bertune.checkpoints.families.nomic import NOMIC_BERT
from bertune.checkpoints.families.roberta import CAMEMBERT, ROBERTA, XLM_ROBERTA
from bertune.checkpoints.families.ultrabert import ULTRABERT
from bertune.errors import InputError

FAMILIES = {
    family.name: family
    for family in (
        *(BERT, ROBERTA, XLM_ROBERTA, CAMEMBERT, DISTILBERT, ELECTRA, ALBERT, MODERNBERT),
        *(MPNET, DEBERTA_V2, EUROBERT, ULTRABERT, NOMIC_BERT, GTE),
    )
}
_OTHER_NAMES = {"new": "gte"}
"""`model_type` of checkpoints that came before transformers had their family."""


def family_of(name: object, where: str = "encoder config") -> Family:
    """A family by its name, which is `model_type` in config.json.

    Raises:
        InputError: an unknown one.
    """
    name = _OTHER_NAMES.get(name, name) if isinstance(name, str) else name
    if not isinstance(name, str) or name not in FAMILIES:
        raise InputError(f"{where}: model_type is {name!r}; known: {', '.join(FAMILIES)}")
    return FAMILIES[name]
