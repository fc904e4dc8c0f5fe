"""How much of a text a vocabulary cannot spell."""

import logging

import numpy as np

from bertune.features import Ragged
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
_MUCH, _NEARLY_ALL = 0.3, 0.9
"""Shares from which on a sequence is taken for one of another language, and such sequences for the reason."""
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
    if share < TOLD:
        return
    name = tokenizer.tokens([tokenizer.special.unk])[0]
    rows = mostly_unknown(input_ids, tokenizer)
    if rows:
        logger.warning(
            "%s: %.0f%% of the tokens are %s, which the vocabulary cannot spell; nearly all are in %d of the %d "
            "sequences: are those in a language that the encoder does not know?",
            what, 100 * share, name, rows, len(input_ids),
        )  # fmt: skip
        return
    logger.warning(
        "%s: %.0f%% of the tokens are %s, which the vocabulary cannot spell: is it the encoder of this language, "
        "and of this casing (--do-lower-case)?",
        what, 100 * share, name,
    )  # fmt: skip


def mostly_unknown(input_ids: Ragged, tokenizer: Tokenizer) -> int:
    """How many sequences, each with much unknown, hold nearly all of it; 0 where they are no minority."""
    unknown = np.flatnonzero(input_ids.values == tokenizer.special.unk)
    counts = np.diff(np.searchsorted(unknown, input_ids.offsets))
    foreign = (counts > 0) & (counts >= _MUCH * input_ids.lengths)
    rows = int(foreign.sum())
    return rows if 2 * rows < len(counts) and counts[foreign].sum() >= _NEARLY_ALL * counts.sum() else 0
