"""Texts of ASCII and common Chinese characters alone, read word by word from a table of the words that were met.

In such a text Google's words follow from two regular expressions: no accent, no mark, no rare letter. On one core, to
look words up takes a fraction of the time in which the `tokenizers` library normalises and splits a text
(benchmarks/LOG.md); the library reads texts side by side, so with many cores it is quicker on many texts.
"""

import os
import re
from itertools import chain

import tokenizers

_OTHERS = (
    "\u00a0\u00b7\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u3000-\u3002\u3008-\u3011"
    "\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
"""Spaces and punctuation that stand in English and Chinese texts; each mark is a word."""
_COMMON = re.compile(f"[\x00-\x7f\u4e00-\u9fff{_OTHERS}]*")
_REMOVED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
"""Control characters, which Google's code takes out before it looks for words."""
_WORDS = re.compile(r"[A-Za-z0-9]+|[^\sA-Za-z0-9]")
_MOST_WORDS = 200_000
_LONGEST = 64
"""Characters of a word above which it is not kept: it will hardly come again."""
FEW_CORES, FEW_TEXTS = 6, 64
"""The table is used with so many cores at most, or for so many texts at most."""


class WordTable(dict[str, tuple[int, ...]]):
    """Ids of every word's pieces; a word that is missing is taken apart by the tokenizer's model, and kept."""

    def __init__(self, backend: tokenizers.Tokenizer, *, lower: bool) -> None:
        """backend: with Google's word pieces. lower: whether text is lowered first."""
        super().__init__()
        self._model, self._lower = backend.model, lower
        added = backend.get_added_tokens_decoder().values()
        self._applies = all(token.special for token in added)  # others are looked for in texts before words are
        self._few_cores = (os.cpu_count() or 1) <= FEW_CORES

    def pays_for(self, texts: int) -> bool:
        """Whether so many texts are read by the table sooner than by the library."""
        return self._applies and (self._few_cores or texts <= FEW_TEXTS)

    def ids(self, text: str) -> list[int] | None:
        """Ids of a text's pieces; None for a text that holds other characters."""
        if not text.isascii() and not _COMMON.fullmatch(text):
            return None
        if not text.isprintable():  # line ends and wide spaces too, which stay
            text = _REMOVED.sub("", text)
        words = _WORDS.findall(text.lower() if self._lower else text)
        return [*chain.from_iterable(map(self.__getitem__, words))]

    def __missing__(self, word: str) -> tuple[int, ...]:
        pieces = tuple(piece.id for piece in self._model.tokenize(word))
        if len(word) <= _LONGEST:
            if len(self) >= _MOST_WORDS:
                self.clear()
            self[word] = pieces
        return pieces
