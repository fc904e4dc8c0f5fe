"""The words of google-research/bert's BasicTokenizer, before word pieces; see `tokenization.tokenizer` for why."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate, chain, groupby

from tokenizers import normalizers, pre_tokenizers

_CJK = re.compile(
    "[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf"
    "\uf900-\ufaff\U0002f800-\U0002fa1f]"
)
SURROGATE = re.compile("[\ud800-\udfff]")
_INNER_SIGMA = re.compile("Σ(?=[α-ωΑ-ΡΣ-Ω])")  # lowered as the library does it: a letter follows, so it is not final
Word = list[tuple[str, int]]
"""Characters, each with the position in the original text that it came from."""


@lru_cache(maxsize=1 << 16)
def _cleaned(char: str) -> str:
    """What a character of the raw text becomes: nothing, a space, itself, or itself set apart by spaces."""
    if char in "\t\n\r" or unicodedata.category(char) == "Zs":
        return " "
    if char in "\0\ufffd" or unicodedata.category(char) in {"Cc", "Cf"}:
        return ""
    return f" {char} " if _CJK.match(char) else char


@lru_cache(maxsize=1 << 16)
def _is_punctuation(char: str) -> bool:
    """Category P*, and every printable ASCII character that is neither letter nor digit."""
    return unicodedata.category(char)[0] == "P" or ("!" <= char <= "~" and not char.isalnum())


def _lowered_without_accents(word: Word) -> Word:
    """`lower()`, canonical decomposition (NFD), and no non-spacing marks (Mn)."""
    # lower() looks at a letter's neighbours (final sigma), which never changes how many characters the letter gives.
    origins = chain.from_iterable([origin] * len(char.lower()) for char, origin in word)
    lowered = zip(text_of(word).lower(), origins, strict=True)
    parts = [(part, origin) for char, origin in lowered for part in unicodedata.normalize("NFD", char)]
    # Canonical order: marks after a character of combining class 0 stand by their class, otherwise as they were.
    groups = accumulate(not unicodedata.combining(char) for char, _ in parts)
    ordered = sorted(zip(groups, parts, strict=True), key=lambda item: (item[0], unicodedata.combining(item[1][0])))
    return [part for _, part in ordered if unicodedata.category(part[0]) != "Mn"]


def text_of(word: Word) -> str:
    return "".join(char for char, _ in word)


class GoogleWords:
    """Google's BasicTokenizer: the library's components where they are exact, Python for the rest."""

    def __init__(self, lower: bool) -> None:
        self.lower = lower
        self.normalizer = normalizers.BertNormalizer(lowercase=lower)
        self.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._met: set[str] = set()
        self._differing: set[str] = set()

    def words(self, text: str) -> list[str]:
        return [text_of(word) for word in self.aligned(text)] if self.differing([text]) else self.stock(text)

    def aligned(self, text: str) -> list[Word]:
        """The words of any text, with where their characters came from."""
        cleaned = [(char, origin) for origin, raw in enumerate(text) for char in _cleaned(raw)]
        words: list[Word] = []
        runs = groupby(cleaned, key=lambda item: item[0].isspace())
        for word in (list(run) for is_space, run in runs if not is_space):
            ended = True
            for char, origin in _lowered_without_accents(word) if self.lower else word:
                alone = _is_punctuation(char)
                if alone or ended:
                    words.append([])
                words[-1].append((char, origin))
                ended = alone
        return words

    def differing(self, texts: Sequence[str]) -> list[int]:
        """Which of the texts hold a character that the library reads differently. ASCII never does."""
        wide = [(index, _INNER_SIGMA.sub("", text)) for index, text in enumerate(texts) if not text.isascii()]
        characters = set("".join(text for _, text in wide))
        for char in characters - self._met:
            if self._differs(char):
                self._differing.add(char)
            self._met.add(char)
        here = characters & self._differing
        return [index for index, text in wide if not here.isdisjoint(text)] if here else []

    def _differs(self, char: str) -> bool:
        # Two rules look beyond the character: the capital sigma's lower case, and the order of combining characters.
        context = char == "Σ" or (unicodedata.combining(char) and unicodedata.category(char) != "Mn")
        if (self.lower and context) or SURROGATE.match(char):  # the library takes no surrogates
            return True
        return self.stock(f"a{char}b") != [text_of(word) for word in self.aligned(f"a{char}b")]

    def stock(self, text: str) -> list[str]:
        return [word for word, _ in self.pre_tokenizer.pre_tokenize_str(self.normalizer.normalize_str(text))]
