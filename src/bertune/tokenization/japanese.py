"""Japanese BERT's tokenizers (`BertJapaneseTokenizer`): words by MeCab, then word pieces; or single characters.

Characters are read by the `tokenizers` library, so that what is saved has a tokenizer.json. What MeCab does cannot be
expressed there: such a folder keeps its vocab.txt and its settings, which transformers reads, and needs `fugashi`.
"""

import importlib
import importlib.util
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.tokenization.google_words import SURROGATE, Word, text_of

_CLASS = "BertJapaneseTokenizer"
_DICTIONARIES = {"ipadic": "ipadic", "unidic_lite": "unidic-lite", "unidic": "unidic"}
"""Dictionaries by their names in `mecab_kwargs`, and the packages that bring them."""
_HANGUL_FINALS = range(0x1160, 0x1200)
"""Letters that compose with the one before though their combining class is 0."""


def is_japanese(settings: Mapping[str, Any], folder: Path) -> bool:
    """Whether the tokenizer's class, in its settings or in the encoder's config, is Japanese BERT's."""
    said = settings.get("tokenizer_class")
    config = folder / "config.json"
    if not said and config.is_file():
        said = read_json(config).get("tokenizer_class")
    return str(said or "").startswith(_CLASS)


def japanese_kind(settings: Mapping[str, Any], folder: Path) -> str:
    """`mecab`: words by MeCab, then word pieces; `character`: single characters; empty: not Japanese BERT's.

    Raises:
        InputError: words or pieces of another kind.
    """
    if not is_japanese(settings, folder):
        return ""
    words = settings.get("word_tokenizer_type") or "basic"
    pieces = settings.get("subword_tokenizer_type") or "wordpiece"
    if words == "mecab" and pieces in {"wordpiece", "character"}:
        return "mecab" if pieces == "wordpiece" else "character"
    raise InputError(
        f"{folder}: {_CLASS} with words of the kind {words!r} and pieces of the kind {pieces!r} is not supported; "
        "MeCab with word pieces or characters is. Way out: write your texts as words divided by spaces, as that "
        'program does, and set "tokenizer_class": "BertTokenizer", "do_lower_case": false, "tokenize_chinese_chars": '
        "false in tokenizer_config.json"
    )


def character_rules(vocab: Mapping[str, int], settings: Mapping[str, Any]) -> tokenizers.Tokenizer:
    """A tokenizer of single characters, normalised by NFKC; spaces between MeCab's words are no characters."""
    backend = tokenizers.Tokenizer(models.WordLevel(dict(vocab), unk_token="[UNK]"))
    rules: list[Any] = [normalizers.NFKC()] if _normalises(settings) else []
    rules += [normalizers.Lowercase()] if settings.get("do_lower_case") else []
    rules += [] if _normalises(settings) else [normalizers.NFKC()]  # the pieces' own, on single words
    backend.normalizer = normalizers.Sequence(rules)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")]
    )
    single, ends = "[CLS] $A [SEP]", [(token, vocab[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single, f"{single} $B:1 [SEP]:1", ends)
    backend.add_special_tokens([token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocab])
    return backend


def _normalises(settings: Mapping[str, Any]) -> bool:
    return bool((settings.get("mecab_kwargs") or {}).get("normalize_text", True))


class JapaneseWords:
    """MeCab's words, with where their characters came from; in the place of `GoogleWords`.

    settings: of tokenizer_config.json, by which transformers finds the same words.
    """

    longest = 100
    """Characters of the longest word that is taken apart; a longer one is [UNK]."""

    def __init__(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Find dictionary and package.

        Raises:
            InputError: a package is missing, or settings that are not supported.
        """
        own = dict(settings.get("mecab_kwargs") or {})
        self._normalises, self._dictionary = _normalises(settings), own.get("mecab_dic", "unidic_lite")
        self._lower = bool(settings.get("do_lower_case"))
        self.settings = {
            "do_lower_case": self._lower,
            "word_tokenizer_type": "mecab",
            "subword_tokenizer_type": "wordpiece",
            "mecab_kwargs": own,
        }
        if own.get("mecab_option") or self._dictionary not in _DICTIONARIES:
            raise InputError(
                f"{folder / 'tokenizer_config.json'}: mecab_kwargs is {own!r}; known is mecab_dic, one of "
                f"{', '.join(_DICTIONARIES)}, without mecab_option, which could name any file"
            )
        missing = [package for package in ("fugashi", self._dictionary) if not _is_there(package)]
        if missing:
            names = " ".join(_DICTIONARIES.get(name, name) for name in missing)
            raise InputError(
                f"{folder}: its words are found by MeCab, for which a package is missing: pip install {names} "
                "(pip install 'bertune[japanese]' brings fugashi, ipadic and unidic-lite)"
            )

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy, which do not take MeCab; it is made again where it is needed."""
        return {name: value for name, value in self.__dict__.items() if name != "_mecab"}

    @cached_property
    def _mecab(self) -> Any:
        fugashi, dictionary = (importlib.import_module(name) for name in ("fugashi", str(self._dictionary)))
        place = Path(dictionary.DICDIR)
        return fugashi.GenericTagger(f'-d "{place}" -r "{place / "mecabrc"}"')

    def words(self, text: str) -> list[str]:
        """The words of a text."""
        return [text_of(word) for word in self.aligned(text)]

    def aligned(self, text: str) -> list[Word]:
        """The words of a text, with where their characters came from."""
        text = SURROGATE.sub("\U0010ffff", text)
        characters = list(_composed(text)) if self._normalises else [(char, i) for i, char in enumerate(text)]
        whole, found, place = "".join(char for char, _ in characters), list[Word](), 0
        for word in self._mecab(whole):
            surface = str(word.surface)
            place = whole.index(surface, place)
            part = characters[place : place + len(surface)]
            place += len(surface)
            for plain in _without_spaces(part):
                found.append(_lowered(plain) if self._lower else plain)
        return found

    def differing(self, texts: Sequence[str]) -> list[int]:
        """Which of the texts are read here: all."""
        return list(range(len(texts)))


def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def mecab_words(settings: Mapping[str, Any], folder: Path, *, lower: bool | None) -> JapaneseWords | None:
    """What finds the words, where MeCab does."""
    if japanese_kind(settings, folder) != "mecab":
        return None
    return JapaneseWords({**settings, "do_lower_case": bool(lower)}, folder)


def _lowered(word: Word) -> Word:
    origins = [origin for char, origin in word for _ in char.lower()]
    return list(zip(text_of(word).lower(), origins, strict=True))


def _without_spaces(word: Word) -> Iterator[Word]:
    """Parts of a word between spaces, which word pieces do not hold."""
    part: Word = []
    for char, origin in word:
        if char.isspace():
            if part:
                yield part
            part = []
        else:
            part.append((char, origin))
    if part:
        yield part


def _composed(text: str) -> Iterator[tuple[str, int]]:
    """The characters of NFKC, each with the place of the first that it came from."""
    starts = [i for i, char in enumerate(text) if i == 0 or not _continues(char)]
    parts = [(text[start:end], start) for start, end in pairwise([*starts, len(text)])]
    made = [(char, start) for part, start in parts for char in unicodedata.normalize("NFKC", part)]
    if "".join(char for char, _ in made) != unicodedata.normalize("NFKC", text):  # some scripts compose further
        return ((char, min(i, len(text) - 1)) for i, char in enumerate(unicodedata.normalize("NFKC", text)))
    return iter(made)


def _continues(char: str) -> bool:
    """Whether a character may compose with the one before."""
    first = unicodedata.normalize("NFKD", char)[0]
    return unicodedata.combining(first) > 0 or ord(first) in _HANGUL_FINALS
