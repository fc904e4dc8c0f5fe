"""Words of a running text."""

import itertools
import unicodedata
from functools import lru_cache


@lru_cache(maxsize=1 << 16)
def _kind(char: str) -> int:
    """0: space.  1: part of a word.  2: a word of its own (punctuation, a Chinese character)."""
    if char.isspace() or unicodedata.category(char) in ("Zs", "Cc"):
        return 0
    if unicodedata.category(char)[0] == "P" or ("!" <= char <= "~" and not char.isalnum()):
        return 2
    code = ord(char)
    alone = (
        0x3400 <= code <= 0x4DBF or 0x4E00 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F
    )
    return 2 if alone else 1


def words_of(text: str) -> tuple[tuple[int, int], ...]:
    """Words of a running text as BERT's basic tokenizer splits: at spaces, punctuation and Chinese characters."""
    found: list[tuple[int, int]] = []
    at = 0
    for kind, run in itertools.groupby(text, _kind):
        length = sum(1 for _ in run)
        if kind == 1:
            found.append((at, at + length))
        elif kind == 2:
            found.extend((i, i + 1) for i in range(at, at + length))
        at += length
    return tuple(found)
