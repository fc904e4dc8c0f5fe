"""The tokens that carry structure, and how many of them stand between two texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers

from bertune.errors import InputError

_SPECIAL = {  # the settings that name a special token, best first, then its usual names
    "pad": ("pad_token", "[PAD]", "<pad>"),
    "unk": ("unk_token", "[UNK]", "<unk>"),
    "cls": ("cls_token", "bos_token", "[CLS]", "<s>"),
    "sep": ("sep_token", "eos_token", "[SEP]", "</s>"),
    "mask": ("mask_token", "[MASK]", "<mask>"),
}


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of the tokens that carry structure; `mask` is None where the vocabulary has none.

    separators: how many `sep` stand between the texts of a pair: one in BERT's form `[CLS] a [SEP] b [SEP]`, two in
        RoBERTa's `<s> a </s></s> b </s>`. One ends the sequence in both.
    """

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int | None
    separators: int = 1

    @property
    def ids(self) -> dict[str, int]:
        """The ids of those that there are, by name."""
        named = {"pad": self.pad, "unk": self.unk, "cls": self.cls, "sep": self.sep, "mask": self.mask}
        return {name: index for name, index in named.items() if index is not None}

    def around(self, paired: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """How many special tokens a sequence has, by whether it is of two texts. Shape: (sequences,)."""
        return np.where(paired, 2 + self.separators, 2)


def structural_tokens(config: Mapping[str, Any]) -> set[str]:
    """Texts of the tokens that carry structure: those that the settings name, and the usual ones."""
    usual = {name for names in _SPECIAL.values() for name in names if not name.endswith("_token")}
    named = (config.get(name) for names in _SPECIAL.values() for name in names if name.endswith("_token"))
    return usual | {str(token.get("content") if isinstance(token, dict) else token) for token in named if token}


def find_special(
    backend: tokenizers.Tokenizer, config: Mapping[str, Any], file: Path, pair: tokenizers.Encoding
) -> SpecialTokens:
    """The special tokens that the settings name, or that have the usual names.

    Args:
        backend: the vocabulary.
        config: tokenizer_config.json, or what stands for it.
        file: where the vocabulary came from, for messages.
        pair: two texts as the library joins them.

    Raises:
        InputError: one that is needed is missing.
    """
    found: dict[str, int] = {}
    for key, names in _SPECIAL.items():
        configured = [config.get(name) or name for name in names]
        tokens = [str(token.get("content") if isinstance(token, dict) else token) for token in configured]
        ids = [index for token in tokens if (index := backend.token_to_id(token)) is not None]
        if ids:
            found[key] = ids[0]
        elif key not in {"pad", "mask"}:
            raise InputError(f"{file}: has none of {', '.join(tokens)}; name its {key}_token in tokenizer_config.json")
    mask, separators = found.get("mask"), _separators(pair, found["sep"])
    return SpecialTokens(found.get("pad", 0), found["unk"], found["cls"], found["sep"], mask, separators)


def _separators(pair: tokenizers.Encoding, sep: int) -> int:
    """How many separators the tokenizer itself puts between two texts; one where it puts none."""
    of = pair.sequence_ids
    if not {0, 1} <= set(of):
        return 1
    between = pair.ids[len(of) - of[::-1].index(0) : of.index(1)]
    return max(1, between.count(sep))
