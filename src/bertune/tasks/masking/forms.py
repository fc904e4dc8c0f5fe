"""How families compute masked words from a token's vector, where it is not as in BERT."""

from dataclasses import dataclass

from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError


@dataclass(frozen=True)
class MaskedForm:
    """What stands between a token's vector and the product with the words' vectors.

    transform: whether the head has a dense layer, an activation and a normalisation of its own; ModernBERT's are the
        encoder's pooler.
    activation: the transform's; empty: that of the encoder's layers.
    bias: whether words have biases.
    """

    transform: bool = True
    activation: str = ""
    bias: bool = True


_GELU = MaskedForm(activation="gelu")
_FORMS = {
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert", "mpnet", "electra", "gte"), _GELU),
    "modernbert": MaskedForm(transform=False),
    "eurobert": MaskedForm(transform=False, bias=False),
}


def masked_form(config: EncoderConfig) -> MaskedForm:
    """The form of an encoder's family.

    Raises:
        InputError: the family's head has parts that are not supported.
    """
    if config.family == "ultrabert":
        raise InputError(
            "masked words: UltraBERT's head has two layers of its own, which are not supported; convert the encoder "
            "alone"
        )
    return _FORMS.get(config.family, MaskedForm())
