"""How much of a text a vocabulary cannot spell."""

import logging

from bertune.features import Ragged
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
TOLD = 0.25
"""Share of unknown tokens from which on something is wrong: another model's vocabulary, casing or language."""


def unknown_share(input_ids: Ragged, tokenizer: Tokenizer) -> float:
    """The share of [UNK] among the tokens that are not special."""
    special = tokenizer.special
    counted = len(input_ids.values)
    others = [index for name, index in special.ids.items() if name not in {"unk", "mask"}]
    counted -= sum(int((input_ids.values == index).sum()) for index in others)
    return float((input_ids.values == special.unk).sum()) / max(counted, 1)


def warn_of_unknown(input_ids: Ragged, tokenizer: Tokenizer, what: str) -> None:
    """Say so where much of a text becomes [UNK]. what: the text, for the message."""
    share = unknown_share(input_ids, tokenizer)
    if share >= TOLD:
        logger.warning(
            "%s: %.0f%% of its tokens are %s, which the vocabulary cannot spell: is it the encoder of this language, "
            "and of this casing (--do-lower-case)?",
            what,
            100 * share,
            tokenizer.tokens([tokenizer.special.unk])[0],
        )
