"""Text to word pieces: exactly google-research/bert's where the vocabulary is BERT's, else what a tokenizer.json says.

The `tokenizers` library's BertNormalizer and BertPreTokenizer read nearly every text as Google's code does. They differ
in rare characters: punctuation and marks younger than the library's Unicode tables, private use, part of CJK extension
E, and the capital sigma, whose lower case depends on its neighbours. So every character is compared once, when first
met, and only texts that hold a differing one are read in Python, whose `unicodedata` decides, as in Google's code.
"""

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bertune.errors import InputError
from bertune.features import IntArray, Ragged
from bertune.files.json_files import read_json
from bertune.files.text_files import small_file
from bertune.tokenization.folder_rules import (
    add_tokens,
    as_settings_say,
    readable_in_texts,
    vocabulary_rules,
    with_template,
)
from bertune.tokenization.google_words import SURROGATE, GoogleWords, text_of
from bertune.tokenization.japanese import JapaneseWords, is_japanese, mecab_words
from bertune.tokenization.saved_rules import with_google_rules, without_google_rules
from bertune.tokenization.special_tokens import SpecialTokens, find_special, structural_tokens
from bertune.tokenization.vocabulary_files import vocabulary_lines
from bertune.tokenization.word_table import WordTable

_LONGEST_WORD = 200  # characters that Google's code still takes apart; a longer word is [UNK]
_MOST_IDS = 1 << 24  # some thirty times the largest vocabulary in use; a table of all ids is made
_CODE = ("auto_map", "chat_template")  # settings that name or hold code, which is neither run nor handed on
_CHUNK = 1024  # texts encoded at a time: enough to keep every core busy, and memory flat even for long texts
_Json = dict[str, Any]


class Tokenizer:
    """A vocabulary with Google's word pieces, or whatever a tokenizer.json holds.

    Special tokens typed in a text, such as `[MASK]`, are text. A lone surrogate (half a character, as careless JSON may
    hold) is read as U+10FFFF, which no vocabulary has.

    Attributes:
        vocab_size: ids run from 0 to `vocab_size - 1`.
        special: ids of the special tokens.
        do_lower_case: whether text is lowered; None when unknown.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialTokens, lower: bool | None, exact: bool) -> None:
        """Take the parts that `from_vocab` and `from_folder` make; `exact` holds the backend to Google's reading."""
        self.special, self.do_lower_case = special, lower
        self._source, self._config = backend.to_str(), _Json()
        self._words: GoogleWords | JapaneseWords = GoogleWords(bool(lower))
        self._exact = exact
        self._ids: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self._ids.values()) + 1
        # A line that a later one repeats leaves an id without a token; no word holds the spaces of this name.
        names = {index: token for token, index in self._ids.items()}
        self._tokens = [names.get(index, f"[no token {index}]") for index in range(self.vocab_size)]
        if isinstance(backend.model, models.Unigram):  # special tokens are pieces to it, found in texts too
            model, hidden = json.loads(self._source)["model"], set(special.ids.values())
            pieces = [(f"\U0010fffe{p}" if i in hidden else p, score) for i, (p, score) in enumerate(model["vocab"])]
            backend.model = models.Unigram(pieces, model["unk_id"], model["byte_fallback"])
        self.__setstate__({"_backend": backend})

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
        self._backend: tokenizers.Tokenizer = state["_backend"]
        self._backend.encode_special_tokens = True  # that is, as text; the library does not pickle this
        self._table: WordTable | None = None

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy, without the table of words, which fills again."""
        return {name: value for name, value in vars(self).items() if name != "_table"}

    @classmethod
    def from_vocab(cls, vocab_file: Path, *, do_lower_case: bool = True) -> "Tokenizer":
        """Google's word pieces from a vocab.txt: one token a line, stripped, whose id is the line's number from 0.

        A repeated token has the id of its last line; padding is always id 0; [MASK] may be missing.

        Raises:
            InputError: the file is missing, empty, not UTF-8, or lacks [CLS], [SEP] or [UNK].
        """
        vocab = _read_vocab(vocab_file)
        special = SpecialTokens(0, vocab["[UNK]"], vocab["[CLS]"], vocab["[SEP]"], vocab.get("[MASK]"))
        return cls(_word_pieces(vocab, do_lower_case), special, do_lower_case, exact=True)

    @classmethod
    def from_folder(cls, folder: Path, *, do_lower_case: bool | None = None) -> "Tokenizer":
        """The tokenizer of a Hugging Face folder: tokenizer.json, else vocab.txt, with the settings beside them.

        BERT's rules and vocabulary are read as Google's code reads them, anything else as the folder tells.

        Args:
            folder: may also hold tokenizer_config.json and special_tokens_map.json.
            do_lower_case: overrides what the folder says where its rules are BERT's: tokenizer_config.json's
                `do_lower_case`, else tokenizer.json's `lowercase`, else True.

        Raises:
            InputError: neither file is there, one cannot be read, a special token is missing, or `do_lower_case`
                contradicts rules that are not BERT's.
        """
        config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
        casing = config.get("do_lower_case") if do_lower_case is None else do_lower_case
        if not isinstance(casing, bool | None):
            raise InputError(f"{folder / 'tokenizer_config.json'}: do_lower_case is {casing!r}; known: true, false")
        file, tree = _read_rules(folder, config | {"do_lower_case": casing})
        tree = as_settings_say(without_google_rules(tree), config | {"do_lower_case": casing})
        with _library_errors(f"{file}: not a tokenizer that the tokenizers library reads"):
            backend = tokenizers.Tokenizer.from_str(json.dumps(tree))
        _check_ids(backend, file)  # before anything makes a list as long as the largest id
        with _library_errors(f"{file}: not a tokenizer that the tokenizers library reads"):
            add_tokens(backend, folder, config)
            canonical = json.loads(backend.to_str())
            tree = readable_in_texts(canonical, structural_tokens(config))
            if tree["added_tokens"] != canonical.get("added_tokens"):  # parsing a large vocabulary again takes time
                backend = tokenizers.Tokenizer.from_str(json.dumps(tree))
            backend.no_truncation()
            backend.no_padding()
            pair = backend.encode("a", "b")
        exact, rules = _is_bert(tree), json.dumps(tree.get("normalizer"))
        lower = '"Lowercase"' in rules or '"lowercase": true' in rules
        if exact:
            lower = lower if casing is None else bool(casing)
            backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
            backend.model.max_input_chars_per_word = _LONGEST_WORD
        elif do_lower_case not in {None, lower}:
            rule = f"{'lower' if lower else 'do not lower'} text, and are not BERT's: leave do_lower_case out"
            raise InputError(f"{file}: do_lower_case is {do_lower_case}, but the rules there {rule}")
        special = find_special(backend, config, file, pair)
        with_template(backend, special.cls, special.sep, special.separators, str(file))
        made = cls(backend, special, lower if exact else lower or None, exact)
        made._config = {key: value for key, value in config.items() if key not in _CODE}
        if words := mecab_words(config, folder, lower=made.do_lower_case):
            made._words, made._backend.model.max_input_chars_per_word = words, words.longest
        return made

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Ids of every text's pieces, without special tokens, uncut.

        Raises:
            InputError: something is not a string.
        """
        return Ragged.from_lengths(*self._read(texts, with_spans=False)[:2])

    def encode_with_offsets(self, texts: Sequence[str]) -> tuple[Ragged, Ragged, Ragged]:
        """Ids as `encode` gives them, starts and ends: a piece came from `text[start:end]`, in code points.

        A stripped accent that is a character of its own belongs to a piece only if it stands inside it.

        Raises:
            InputError: something is not a string.
        """
        ids, counts, spans = self._read(texts, with_spans=True)
        starts, ends = (Ragged.from_lengths(column, counts) for column in spans.reshape(-1, 2).T.copy())
        return Ragged.from_lengths(ids, counts), starts, ends

    def _read(self, texts: Sequence[str], *, with_spans: bool) -> list[IntArray]:
        """Pieces of all texts: ids; how many a text has; start, end, start, end, … if wanted, else nothing of use."""
        if isinstance(texts, str):
            raise InputError("one string was given where a list of texts is needed")
        parts = [[np.zeros(0, np.int32)] * 3]
        for first in range(0, len(texts), _CHUNK):
            chunk = [_checked(text, first + index) for index, text in enumerate(texts[first : first + _CHUNK])]
            ids, spans = self._by_library(chunk) if with_spans else (self._by_words(chunk), [])
            edges = chain.from_iterable(chain.from_iterable(spans))
            parts.append([np.fromiter(column, np.int32) for column in (chain.from_iterable(ids), map(len, ids), edges)])
        return [np.concatenate(column) for column in zip(*parts, strict=True)]

    def _by_words(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of every text, from the table of words where that can read the text, else from the library."""
        if self._table is None and self._exact and isinstance(self._words, GoogleWords):
            self._table = WordTable(self._backend, lower=self._words.lower)
        if self._table is None or not self._table.pays_for(len(texts)):
            return self._by_library(texts, with_spans=False)[0]
        found = [self._table.ids(text) for text in texts]
        rest = [text for text, ids in zip(texts, found, strict=True) if ids is None]
        others = iter(self._by_library(rest, with_spans=False)[0]) if rest else iter(())
        return [next(others) if ids is None else ids for ids in found]

    def _by_library(
        self, texts: Sequence[str], *, with_spans: bool = True
    ) -> tuple[list[list[int]], list[list[tuple[int, int]]]]:
        """Ids and, where wanted, spans of every text; those that the library would split otherwise in Python."""
        read = self._backend.encode_batch if with_spans else self._backend.encode_batch_fast
        with _library_errors("the tokenizer cannot read some of these texts"):
            encodings = read(texts, add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        spans = [encoding.offsets if with_spans else [] for encoding in encodings]
        for index in self._words.differing(texts) if self._exact else ():
            ids[index], spans[index] = self._read_rare(texts[index])
        return ids, spans

    def _read_rare(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids and spans of a text that the library would split differently."""
        ids, spans = list[int](), list[tuple[int, int]]()
        for word in self._words.aligned(text):
            end = 0
            for piece in self._backend.model.tokenize(text_of(word)):
                start, end = end, end + len(piece.value.removeprefix("##") if end else piece.value)
                end = len(word) if piece.value == "[UNK]" else end
                origins = [origin for _, origin in word[start:end]]
                ids.append(piece.id)
                spans.append((min(origins), max(origins) + 1))
        return ids, spans

    def tokenize(self, text: str) -> list[str]:
        """The pieces of one text."""
        return self.tokens(self.encode([text])[0])

    def tokens(self, ids: Sequence[int] | IntArray) -> list[str]:
        """What every id, from 0 to `vocab_size - 1`, stands for."""
        return [self._tokens[index] for index in ids]

    def id_of(self, token: str) -> int | None:
        """The id of a token, or None where the vocabulary lacks it."""
        return self._ids.get(token)

    def basic(self, text: str) -> list[str]:
        """Google's words, before word pieces; lowered only if the tokenizer is known to lower."""
        return self._words.words(text)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that changes ids, the edition of Unicode included."""
        google = [_LONGEST_WORD, self.do_lower_case, unicodedata.unidata_version]
        vocab = sorted(self._ids.items(), key=lambda item: item[1])
        rules = google if self._exact else self._source
        own = [self._words.settings] if isinstance(self._words, JapaneseWords) else []
        state = json.dumps([rules, vocab, *own])
        return hashlib.sha256(state.encode()).hexdigest()

    @property
    def is_self_contained(self) -> bool:
        """Whether a tokenizer.json says all that it does, so that other programs can read texts likewise."""
        return not isinstance(self._words, JapaneseWords)

    def save(self, folder: Path, *, max_length: int) -> None:
        """Write the tokenizer as a Hugging Face folder holds it, for transformers and for `from_folder`.

        transformers recognises special tokens in texts, as its users expect; `from_folder` reads them as text.

        Args:
            folder: where to; made if missing.
            max_length: tokens of the longest sequence that the model takes.
        """
        tree = json.loads(self._source)
        if isinstance(self._words, GoogleWords) and self._exact:
            tree = with_google_rules(tree, bool(self.do_lower_case), self._words.words, self._words.stock)
        backend = tokenizers.Tokenizer.from_str(json.dumps(tree))
        kind = "PreTrainedTokenizerFast"  # reads tokenizer.json as it is; BertTokenizer would cut words off at 100
        named = {f"{name}_token": self._tokens[i] for name, i in self.special.ids.items()}
        config = named | self._config | {"tokenizer_class": kind, "model_max_length": max_length}
        if isinstance(self._words, JapaneseWords):
            config |= self._words.settings | {"tokenizer_class": "BertJapaneseTokenizer"}
        elif self._exact:
            config |= {"do_lower_case": self.do_lower_case, "strip_accents": None, "tokenize_chinese_chars": True}
            config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
        special = {key: config[key] for key in config if key.endswith("_token") and not isinstance(config[key], bool)}
        folder.mkdir(parents=True, exist_ok=True)
        if self.is_self_contained:
            backend.save(str(folder / "tokenizer.json"))
        for name, tree in ("tokenizer_config.json", config), ("special_tokens_map.json", special):
            (folder / name).write_text(json.dumps(tree, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        if isinstance(backend.model, models.WordPiece):
            last = max(backend.get_vocab(with_added_tokens=False).values())
            (folder / "vocab.txt").write_bytes("".join(f"{token}\n" for token in self._tokens[: last + 1]).encode())


@contextmanager
def _library_errors(what: str) -> Iterator[None]:
    """What the library raises, which is nothing more specific than Exception, and panics of its Rust code, told."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise InputError(f"{what}: {error}") from error


def _check_ids(backend: tokenizers.Tokenizer, file: Path) -> None:
    """Refuse ids that no table of vectors can have.

    Raises:
        InputError: naming the largest id.
    """
    if (most := max(backend.get_vocab(with_added_tokens=True).values(), default=0)) >= _MOST_IDS:
        raise InputError(f"{file}: a token has the id {most}; ids run from 0 to the vocabulary's size")


def _checked(text: object, index: int) -> str:
    if not isinstance(text, str):
        raise InputError(f"text {index} is {text!r}, a {type(text).__name__}; only strings can be encoded")
    return text if text.isascii() else SURROGATE.sub("\U0010ffff", text)


def _read_vocab(file: Path) -> dict[str, int]:
    try:
        lines = vocabulary_lines(small_file(file).decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read as a vocabulary, one token a line in UTF-8: {error}") from error
    vocab = {line.strip(): index for index, line in enumerate(lines)}
    missing = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in vocab]
    if missing:
        raise InputError(f"{file}: lacks {', '.join(missing)}; a BERT vocabulary holds [CLS], [SEP] and [UNK]")
    return vocab


def _read_json(file: Path) -> _Json:
    """The object in a JSON file; an empty one where there is no file."""
    return read_json(file) if file.is_file() else {}


def _read_rules(folder: Path, config: _Json) -> tuple[Path, _Json]:
    """What tokenizer.json holds, or would hold if it were made from the vocabulary and its settings."""
    if (file := folder / "tokenizer.json").is_file() and not is_japanese(config, folder):
        return file, _read_json(file)
    return vocabulary_rules(folder, config, _read_vocab, _word_pieces)


def _word_pieces(vocab: dict[str, int], lower: bool) -> tokenizers.Tokenizer:
    """Google's word pieces, with what transformers expects around them."""
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=_LONGEST_WORD))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lower)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    single, ends = "[CLS] $A [SEP]", [(token, vocab[token]) for token in ("[CLS]", "[SEP]")]
    backend.post_processor = processors.TemplateProcessing(single, f"{single} $B:1 [SEP]:1", ends)
    backend.add_special_tokens([token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in vocab])
    return backend


def _is_bert(tree: _Json) -> bool:
    """Whether a tokenizer.json, known to be well-formed, holds BERT's rules and vocabulary, however it limits words."""
    model, normalizer, splitter = (tree.get(part) or {} for part in ("model", "normalizer", "pre_tokenizer"))
    return (
        {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}.items() <= normalizer.items()
        and normalizer.get("strip_accents") in {None, normalizer["lowercase"]}
        and splitter.get("type") == "BertPreTokenizer"
        and {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}.items() <= model.items()
        and all(token["special"] and token["content"] in model["vocab"] for token in tree.get("added_tokens") or ())
    )
