"""Where grapheme clusters begin (UAX 29): by the `regex` package, or without it by the expressions of `tokenizers`.

bertune-runtime does without `regex`. The expressions of `tokenizers` (Oniguruma) know all rules but GB9c, which holds
the consonants of an Indic conjunct together; that one is applied here. Both agree on what the scripts of the Basic
Multilingual Plane write; not on a spacing vowel sign between a virama and a consonant, which none of them has.
"""

import unicodedata
from collections.abc import Callable
from functools import cache

from tokenizers import Regex, pre_tokenizers

_CONSONANTS = (
    "915-939 958-95f 978-97f 995-9a8 9aa-9b0 9b2 9b6-9b9 9dc-9dd 9df 9f0-9f1 a95-aa8 aaa-ab0 ab2-ab3 ab5-ab9 af9 "
    "b15-b28 b2a-b30 b32-b33 b35-b39 b5c-b5d b5f b71 c15-c28 c2a-c39 c58-c5a d15-d3a 1000-102a 103f 1050-1055 "
    "105a-105d 1061 1065-1066 106e-1070 1075-1081 108e 1780-17b3 1a20-1a54 1b0b-1b0c 1b13-1b33 1b45-1b4c "
    "1b83-1ba0 1bae-1baf 1bbb-1bbd a989-a98b a98f-a9b2 a9e0-a9e4 a9e7-a9ef a9fa-a9fe aa60-aa6f aa71-aa73 aa7a "
    "aa7e-aa7f aae0-aaea abc0-abda 10a00 10a10-10a13 10a15-10a17 10a19-10a35 11103-11126 11144 11147 11380-11389 "
    "1138b 1138e 11390-113b5 11900-11906 11909 1190c-11913 11915-11916 11918-1192f 11a00 11a0b-11a32 11a50 "
    "11a5c-11a83 11b0a 11df1 11f04-11f10 11f12-11f33"
)
"""Indic_Conjunct_Break=Consonant of Unicode 17, in hexadecimal."""
_LINKERS = frozenset(
    "\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2\u1a60\u1b44\u1bab\ua9c0\uaaf6"
    "\U00010a3f\U00011133\U000113d0\U0001193e\U00011a47\U00011a99\U00011f42"
)
"""Indic_Conjunct_Break=Linker of Unicode 17."""
_EXTENDING = ("Mn", "Me")


@cache
def _regex_finder() -> Callable[[str], list[int]] | None:
    try:
        import regex
    except ImportError:
        return None
    find = regex.compile(r"\X").finditer
    return lambda text: [found.start() for found in find(text)]


def cluster_starts(text: str) -> list[int]:
    """Where each grapheme cluster of a text begins, in code points."""
    find = _regex_finder()
    return starts_without_regex(text) if find is None else find(text)


def starts_without_regex(text: str) -> list[int]:
    """The same, without the `regex` package."""
    spans = [span for _, span in _splitter().pre_tokenize_str(text)]
    return [
        start for i, (start, _) in enumerate(spans) if not (i and _links(text[spans[i - 1][0] : start], text[start]))
    ]


@cache
def _splitter() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(Regex(r"\X"), "isolated")


@cache
def _consonants() -> frozenset[str]:
    ranges = [[int(end, 16) for end in part.split("-")] for part in _CONSONANTS.split()]
    return frozenset(chr(code) for ends in ranges for code in range(ends[0], ends[-1] + 1))


def _links(cluster: str, following: str) -> bool:
    """Rule GB9c as `regex` applies it: a linker among the extending characters at the end, then a consonant.

    The rule asks for a consonant before the linker too; `regex` does not, and spans must not depend on it.
    """
    if following not in _consonants():
        return False
    for char in reversed(cluster):
        if char in _LINKERS:
            return True
        if char != "\u200d" and unicodedata.category(char) not in _EXTENDING:
            return False
    return False
