"""A folder's tokenizer as the `tokenizers` library describes it: read from tokenizer.json, or made from older files.

What is not BERT's and needs a library or code of its own is refused by name.
"""

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, decoders, models, pre_tokenizers, processors

from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.tokenization.casing import casing_of
from bertune.tokenization.japanese import character_rules, japanese_kind
from bertune.tokenization.sentencepiece import FILES as SENTENCEPIECE
from bertune.tokenization.sentencepiece import sentencepiece_file, sentencepiece_rules
from bertune.tokenization.special_tokens import structural_tokens

logger = logging.getLogger(__name__)
Json = dict[str, Any]

_WAY_OUT = "load it with transformers and save_pretrained; if that writes a tokenizer.json, put it there"
_OWN_RULES = {
    "BertweetTokenizer": "it normalises tweets by rules of its own and reads bpe.codes",
    "PhobertTokenizer": "it reads bpe.codes, over words that VnCoreNLP has split",
    "HerbertTokenizer": "it splits words by Moses' rules before BPE",
    "RoFormerTokenizer": "it splits Chinese words with jieba before word pieces",
    "CpmTokenizer": "it splits Chinese words with jieba before SentencePiece",
    "MPNetTokenizer": "its special tokens are not BERT's",
    "EsmTokenizer": "it reads proteins",
    "BasicTokenizer": "it is not a tokenizer of subwords",
}
"""Classes whose vocab.txt or vocab.json is not read by BERT's or RoBERTa's rules, and what is different."""


def vocabulary_rules(
    folder: Path,
    config: Mapping[str, Any],
    read_vocab: Callable[[Path], dict[str, int]],
    word_pieces: Callable[[dict[str, int], bool], tokenizers.Tokenizer],
) -> tuple[Path, Json]:
    """What tokenizer.json would hold: from vocab.txt, vocab.json and merges.txt, or SentencePiece's file.

    Args:
        folder: without a tokenizer.json.
        config: its settings.
        read_vocab: reads a vocab.txt.
        word_pieces: a tokenizer of these word pieces, lower-casing or not.

    Raises:
        InputError: neither is there, or a tokenizer of another kind.
    """
    if kind := japanese_kind(config, folder):
        return _japanese_rules(folder, config, kind, read_vocab, word_pieces)
    _refuse_other_classes(folder, config)
    pieces = sentencepiece_file(folder)
    if (folder / "vocab.txt").is_file() and pieces is not None:
        vocab = read_vocab(folder / "vocab.txt")
        if _is_sentencepiece(vocab) or str(config.get("tokenizer_class")).lower().startswith("kobert"):
            return pieces, _tree(sentencepiece_rules(pieces, config, vocab))
    if (folder / "vocab.txt").is_file():
        return folder / "vocab.txt", _from_vocab(folder, config, read_vocab, word_pieces)
    if (folder / "vocab.json").is_file() and (folder / "merges.txt").is_file():
        return folder / "vocab.json", _from_merges(folder, config)
    if pieces is not None:
        return pieces, _tree(sentencepiece_rules(pieces, config, None))
    raise InputError(
        f"{folder}: holds neither tokenizer.json nor vocab.txt, nor vocab.json with merges.txt, nor SentencePiece's "
        f"{', '.join(SENTENCEPIECE)}, one of which a tokenizer needs"
    )


def as_settings_say(tree: Json, config: Mapping[str, Any]) -> Json:
    """BERT's rules with what tokenizer_config.json says of case, accents and Chinese characters, as in transformers."""
    names = {"strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
    names |= {"do_lower_case": "lowercase"}
    rules = tree.get("normalizer")
    if not isinstance(rules, dict) or rules.get("type") != "BertNormalizer":
        return tree
    said = {ours: config[theirs] for theirs, ours in names.items() if isinstance(config.get(theirs), bool)}
    return {**tree, "normalizer": {**rules, **said}}


def _refuse_other_classes(folder: Path, config: Mapping[str, Any]) -> None:
    name = str(config.get("tokenizer_class") or "")
    if reason := _OWN_RULES.get(name.removesuffix("Fast")):
        raise InputError(f"{folder}: its tokenizer is {name}, which is not supported: {reason}. Way out: {_WAY_OUT}")


def _japanese_rules(
    folder: Path,
    config: Mapping[str, Any],
    kind: str,
    read_vocab: Callable[[Path], dict[str, int]],
    word_pieces: Callable[[dict[str, int], bool], tokenizers.Tokenizer],
) -> tuple[Path, Json]:
    """Characters, or the word pieces that MeCab's words are cut into."""
    file = folder / "vocab.txt"
    vocab = read_vocab(file)
    if kind == "character":
        return file, _tree(character_rules(vocab, config))
    return file, _tree(word_pieces(vocab, bool(config.get("do_lower_case"))))


def _tree(backend: tokenizers.Tokenizer) -> Json:
    tree: Json = json.loads(backend.to_str())
    return tree


def _is_sentencepiece(vocab: Mapping[str, int]) -> bool:
    """Whether a vocabulary holds SentencePiece's pieces, and no word pieces."""
    marked = sum(token.startswith("▁") for token in vocab)
    return marked > len(vocab) // 10 and not any(token.startswith("##") for token in vocab)


def _from_vocab(
    folder: Path,
    config: Mapping[str, Any],
    read_vocab: Callable[[Path], dict[str, int]],
    word_pieces: Callable[[dict[str, int], bool], tokenizers.Tokenizer],
) -> Json:
    file = folder / "vocab.txt"
    vocab = read_vocab(file)
    if _is_sentencepiece(vocab):
        raise InputError(
            f"{file}: holds SentencePiece's pieces (▁…), which word pieces cannot spell; put SentencePiece's own file "
            "(….model) beside it"
        )
    lower = config.get("do_lower_case")
    if lower is None:
        casing = casing_of(vocab)
        lower = casing.lower is not False
        casing_text = "lower-cased" if lower else "not lower-cased"
        logger.info("%s: nothing says do_lower_case; text is %s: %s", folder, casing_text, casing.reason)
    tree: Json = json.loads(word_pieces(vocab, bool(lower)).to_str())
    chinese = config.get("tokenize_chinese_chars") is not False
    tree["normalizer"] |= {"strip_accents": config.get("strip_accents"), "handle_chinese_chars": chinese}
    return tree


def _from_merges(folder: Path, config: Mapping[str, Any]) -> Json:
    """RoBERTa's byte-level pairs, as transformers' RobertaTokenizer reads these files."""
    try:
        model = models.BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt"))
    except Exception as error:  # the library raises nothing more specific
        raise InputError(f"{folder}: vocab.json and merges.txt cannot be read: {error}") from None
    backend = tokenizers.Tokenizer(model)
    space = bool(config.get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    wanted = ("<s>", "</s>")
    ends = {token: index for token in wanted if (index := backend.token_to_id(token)) is not None}
    if missing := [token for token in wanted if token not in ends]:
        raise InputError(f"{folder / 'vocab.json'}: lacks {', '.join(missing)}, so it is not RoBERTa's: {_WAY_OUT}")
    backend.post_processor = processors.RobertaProcessing(
        ("</s>", ends["</s>"]), ("<s>", ends["<s>"]), trim_offsets=True, add_prefix_space=space
    )
    plain = [token for token in ("<s>", "<pad>", "</s>", "<unk>") if backend.token_to_id(token) is not None]
    backend.add_special_tokens(plain)
    if backend.token_to_id("<mask>") is not None:
        backend.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    tree: Json = json.loads(backend.to_str())
    return tree


def add_tokens(backend: tokenizers.Tokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Add what `added_tokens_decoder` of tokenizer_config.json and added_tokens.json name and the rules lack.

    Raises:
        InputError: ids that would leave a gap or are taken.
    """
    wanted: dict[int, AddedToken] = {}
    file = folder / "added_tokens.json"
    for token, index in (read_json(file) if file.is_file() else {}).items():
        if isinstance(index, int):
            wanted[index] = AddedToken(token, normalized=False)
    decoder = config.get("added_tokens_decoder")
    for index, entry in (decoder if isinstance(decoder, dict) else {}).items():
        if isinstance(entry, dict) and isinstance(entry.get("content"), str) and str(index).isdecimal():
            flags = {
                name: bool(entry[name]) for name in ("single_word", "lstrip", "rstrip", "normalized") if name in entry
            }
            wanted[int(index)] = AddedToken(entry["content"], special=bool(entry.get("special")), **flags)
    for content in _named_specials(config):
        known = backend.token_to_id(content)
        if known is not None:  # one that the vocabulary lacks would have no vector
            wanted.setdefault(known, AddedToken(content, special=True, normalized=False))
    structural = structural_tokens(config)
    for index, added in sorted(wanted.items()):
        known = backend.token_to_id(added.content)
        if known is None or added.content not in structural:  # those of the vocabulary too, to be found as they stand
            backend.add_tokens([added])
            known = backend.token_to_id(added.content)
        if known != index:
            raise InputError(
                f"{folder}: its settings give the added token {added.content!r} the id {index}, but after the "
                f"vocabulary it is {known}; load the tokenizer with transformers and save it again"
            )


def _named_specials(config: Mapping[str, Any]) -> list[str]:
    """Tokens that the settings name as special without a role."""
    found: list[object] = []
    for key in ("additional_special_tokens", "extra_special_tokens"):
        value = config.get(key)
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    contents = (one.get("content") if isinstance(one, dict) else one for one in found)
    return [content for content in contents if isinstance(content, str) and content]


def readable_in_texts(tree: Json, structural: set[str]) -> Json:
    """The rules, with added tokens that carry no structure (`[E1]`, `<user>`) found in texts, as transformers does."""
    tokens = tree.get("added_tokens") or []
    changed = [token | {"special": False} if token["content"] not in structural else token for token in tokens]
    return tree | {"added_tokens": changed}


def with_template(backend: tokenizers.Tokenizer, cls: int, sep: int, separators: int, where: str) -> None:
    """Give rules without BERT's template one, so that transformers encodes as the model was trained."""
    plain = backend.encode("a", add_special_tokens=False).ids
    if backend.encode("a").ids == [cls, *plain, sep]:
        return
    first, last = backend.id_to_token(cls), backend.id_to_token(sep)
    between = " ".join([f"{last}"] * separators)
    second = 0 if separators > 1 else 1
    backend.post_processor = processors.TemplateProcessing(
        f"{first} $A {last}", f"{first} $A {between} $B:{second} {last}:{second}", [(first, cls), (last, sep)]
    )
    logger.warning(
        "%s: its template does not put %s before a text and %s behind it, as encoders are trained; bertune does, and "
        "writes that into the tokenizer.json of what it saves",
        where,
        first,
        last,
    )
