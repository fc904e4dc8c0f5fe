"""Whether a vocabulary was made from lower-cased text, by the letters that it can spell."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_MARK = re.compile(r"\ufeff?(\[.*\]|<.*>)")
_NAME = re.compile(r"(?:^|[^a-z])(un)?cased(?:[^a-z]|$)")
_LOWER_NAMES = re.compile(r"(chinese|multilingual)(?:[^a-z]|$)")
_MOST_WITHOUT = 0.1
"""Share of the letters that a lower-cased vocabulary may hold as capitals too, by accident."""


@dataclass(frozen=True)
class Casing:
    """Whether text is to be lower-cased, None where nothing tells, and what that was decided by."""

    lower: bool | None
    reason: str


def casing_of(lines: Iterable[str], names: Sequence[str] = ()) -> Casing:
    """Decide for a vocabulary of word pieces.

    What it can spell goes first: a vocabulary made from cased text holds capitals of its letters in its pieces. Marks
    such as [CLS] and <S> do not count.

    Args:
        lines: word pieces.
        names: of folders, as Google names them (`uncased_…`, `multi_cased_…`, `chinese_…`); asked where the vocabulary
            does not tell.
    """
    pieces = [line.strip() for line in lines]
    plain = [piece.removeprefix("##") for piece in pieces if not _MARK.fullmatch(piece)]
    letters = {char for piece in plain for char in piece}
    small = {char for char in letters if char.upper() != char and len(char.upper()) == 1}
    capitals = {char for char in letters if char.lower() != char and len(char.lower()) == 1}
    if not small and not capitals:
        return casing_from_names(names)
    share = len(capitals) / max(len(small | {char.lower() for char in capitals}), 1)
    if share > _MOST_WITHOUT:
        return Casing(False, f"the vocabulary spells capital letters ({_shown(capitals)})")
    return Casing(True, f"the vocabulary spells small letters ({_shown(small)}) but not their capitals")


def casing_from_names(names: Sequence[str]) -> Casing:
    """Decide by names of folders: `uncased_…`, `chinese_…` and `multilingual_…` are lower-cased, `…cased_…` are not."""
    for name in names:
        if match := _NAME.search(name.lower()):
            return Casing(match[1] is not None, f"the folder is named {name}")
        if _LOWER_NAMES.match(name.lower()):
            return Casing(True, f"the folder is named {name}")
    return Casing(None, "neither the vocabulary's letters nor the folder's name tell; text is lower-cased")


def _shown(letters: Iterable[str]) -> str:
    shown = sorted(letters)
    return ", ".join(shown[:3]) + (", …" if len(shown) > 3 else "")
