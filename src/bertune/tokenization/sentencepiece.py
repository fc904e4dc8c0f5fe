"""SentencePiece's own files (`spm.model`, `sentencepiece.bpe.model`, `spiece.model`) as tokenizers of the library.

The file is a protocol buffer of pieces with scores and of the normalisation's table (sentencepiece_model.proto).
Families arrange its pieces each in their own way, as their tokenizers in transformers do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.files.text_files import small_file
from bertune.tensorflow_formats.protobuf import Message, WireError

FILES = ("spm.model", "sentencepiece.bpe.model", "spiece.model", "sentencepiece.model", "tokenizer.model")
"""Usual names of the file, best first."""
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_UNIGRAM = 1
_NEVER = -100.0
"""Added to the score of a piece that the family's tokenizers do not use."""


class _Piece(NamedTuple):
    text: str
    score: float
    kind: int


@dataclass(frozen=True)
class _File:
    """What a file holds.

    charsmap: the normalisation's table; empty: none.
    prefix: whether a text gets a space first.
    """

    pieces: list[_Piece]
    charsmap: bytes
    prefix: bool
    byte_fallback: bool


@dataclass(frozen=True)
class _Family:
    """How a family arranges pieces.

    first: tokens before the pieces.
    skipped: of the file's pieces, as many from the first on are left out.
    last: tokens behind the pieces, where they are missing.
    cls, sep: around a text.
    separators: between two texts.
    lower: whether text is lowered where the settings do not say; None: never, whatever they say.
    albert: with ALBERT's rules: quotes, accents stripped unless the settings keep them, digits apart from a comma.
    """

    first: tuple[str, ...] = ()
    skipped: int = 0
    last: tuple[str, ...] = ("[MASK]",)
    cls: str = "[CLS]"
    sep: str = "[SEP]"
    separators: int = 1
    lower: bool | None = False
    albert: bool = False


_ROBERTA: dict[str, Any] = {"last": ("<mask>",), "cls": "<s>", "sep": "</s>", "separators": 2, "lower": None}
_FAMILIES = {
    "xlmroberta": _Family(first=("<s>", "<pad>", "</s>", "<unk>"), skipped=3, **_ROBERTA),
    "camembert": _Family(first=("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED"), skipped=1, **_ROBERTA),
    "debertav2": _Family(),
    "albert": _Family(lower=True, albert=True),
    "bert": _Family(albert=True),
}
"""By the beginning of the tokenizer's class, or by `model_type`; `bert`: KoBERT and its kin."""
_BY_FILE = {"spm.model": "debertav2", "sentencepiece.bpe.model": "xlmroberta", "spiece.model": "albert"}


def sentencepiece_file(folder: Path) -> Path | None:
    """The file in a folder: one of the usual names, or the only one that ends with `.model`, as KoBERT's."""
    usual = next((folder / name for name in FILES if (folder / name).is_file()), None)
    others = sorted(folder.glob("*.model"))
    return usual or (others[0] if len(others) == 1 else None)


def sentencepiece_rules(
    file: Path, settings: Mapping[str, Any], vocab: Mapping[str, int] | None
) -> tokenizers.Tokenizer:
    """A tokenizer of SentencePiece's pieces.

    Args:
        file: in the encoder's folder.
        settings: of the tokenizer.
        vocab: ids of pieces where a vocab.txt beside the file gives them others than the file does.

    Raises:
        InputError: no such file, pieces of another kind than unigrams, or a family whose arrangement is not known.
    """
    read = _read(file)
    family = _FAMILIES[_family_name(file, settings)]
    if family.albert:
        read = replace(read, pieces=[_without_comma(piece) for piece in read.pieces])
    pieces = _arranged(read.pieces, family) if vocab is None else _by_vocabulary(read.pieces, vocab, file)
    ids = {piece.text: index for index, piece in enumerate(pieces)}
    unknown = next((index for index, piece in enumerate(pieces) if piece.kind == _UNKNOWN), None)
    missing = [token for token in (family.cls, family.sep) if token not in ids]
    if missing or unknown is None:
        raise InputError(f"{file}: lacks {', '.join(missing) or 'a piece for what is unknown'}, which encoders need")
    scores = [(piece.text, piece.score) for piece in pieces]
    backend = tokenizers.Tokenizer(models.Unigram(scores, unknown, read.byte_fallback))
    backend.normalizer = normalizers.Sequence(_normalizers(read, family, settings))
    scheme = "always" if read.prefix else "never"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme=scheme)
    between = " ".join([family.sep] * family.separators)
    segment = 1 if family.separators == 1 else 0
    backend.post_processor = processors.TemplateProcessing(
        f"{family.cls} $A {family.sep}",
        f"{family.cls} $A {between} $B:{segment} {family.sep}:{segment}",
        [(family.cls, ids[family.cls]), (family.sep, ids[family.sep])],
    )
    found = [piece.text for piece in pieces if piece.kind == _USER_DEFINED]
    backend.add_tokens([AddedToken(text, normalized=False) for text in found])
    structural = {family.cls, family.sep, "<pad>", "[PAD]", "<mask>", "[MASK]", pieces[unknown].text}
    backend.add_special_tokens([AddedToken(text, normalized=False) for text in ids if text in structural])
    return backend


def _read(file: Path) -> _File:
    """The file's pieces and rules.

    Raises:
        InputError: no SentencePiece model, or not one of unigrams.
    """
    try:
        data = small_file(file)
        if data.startswith(b"version https://git-lfs"):
            raise InputError(
                f"{file}: a Git LFS pointer, not the model; run `git lfs pull`, or download it from the Hub"
            )
        model = Message(data)
        pieces = [
            _Piece(piece.text(1), (piece.floats(2) or [0.0])[-1], piece.integer(3) if 3 in piece else _NORMAL)
            for piece in model.messages(1)
        ]
        trainer, rules = model.message(2), model.message(3)
        kind = trainer.integer(3) if 3 in trainer else _UNIGRAM
        byte_fallback, charsmap = bool(trainer.integer(35)), bytes(rules.data(2))
        prefix, collapses = (bool(rules.integer(number)) if number in rules else True for number in (3, 4))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from None
    except WireError as error:
        raise InputError(f"{file}: not a SentencePiece model ({error}); copy or download it again") from None
    if not pieces:
        raise InputError(f"{file}: holds no pieces; is it a SentencePiece model?")
    if kind != _UNIGRAM:
        names = {2: "BPE", 3: "words", 4: "characters"}
        raise InputError(
            f"{file}: its pieces are made by {names.get(kind, kind)}; unigrams are read. Load the tokenizer with "
            "transformers and save_pretrained, which writes tokenizer.json"
        )
    if not collapses:
        raise InputError(f"{file}: it keeps repeated spaces, which is not supported")
    return _File(pieces, charsmap, prefix, byte_fallback)


def _family_name(file: Path, settings: Mapping[str, Any]) -> str:
    """By the tokenizer's class, else the encoder's family, else the file's name."""
    config = file.parent / "config.json"
    model_type = str(read_json(config).get("model_type") or "") if config.is_file() else ""
    for said in (str(settings.get("tokenizer_class") or ""), model_type):
        plain = said.lower().replace("-", "").replace("_", "")
        plain = "bert" if plain.startswith("kobert") else plain
        if found := next((name for name in _FAMILIES if plain.startswith(name)), None):
            return found
        if plain and plain not in {"pretrainedtokenizer", "pretrainedtokenizerfast"}:
            raise InputError(
                f"{file}: how {said} arranges SentencePiece's pieces is not known here (known: XLM-R, CamemBERT, "
                "DeBERTa-v2 and -v3, ALBERT, KoBERT); load the tokenizer with transformers and save_pretrained, which "
                "writes tokenizer.json"
            )
    if file.name in _BY_FILE:
        return _BY_FILE[file.name]
    raise InputError(f"{file}: nothing says whose tokenizer it is; add model_type to config.json")


def _without_comma(piece: _Piece) -> _Piece:
    """A piece such as `5,` as ALBERT's tokenizer has it: it never occurs, so that digits and comma are two pieces."""
    is_number = len(piece.text) > 1 and piece.text[-1] == "," and piece.text[-2].isdigit()
    return piece._replace(score=piece.score + _NEVER) if is_number else piece


def _arranged(pieces: Sequence[_Piece], family: _Family) -> list[_Piece]:
    """Pieces in the order of their ids."""
    if not family.first:
        made = list(pieces)
    else:
        unknown = "<unk>"
        made = [
            _Piece(text, _NEVER if text == f"{unknown}NOTUSED" else 0.0, _UNKNOWN if text == unknown else _CONTROL)
            for text in family.first
        ] + list(pieces[family.skipped :])
    known = {piece.text for piece in made}
    return made + [_Piece(text, 0.0, _CONTROL) for text in family.last if text not in known]


def _by_vocabulary(pieces: Sequence[_Piece], vocab: Mapping[str, int], file: Path) -> list[_Piece]:
    """The pieces in the order of a vocab.txt; what only the vocabulary has is never found in a text."""
    known = {piece.text: piece for piece in pieces}
    lowest = min(piece.score for piece in pieces)
    made = [known.get(text, _Piece(text, lowest, _CONTROL)) for text in sorted(vocab, key=lambda t: vocab[t])]
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise InputError(f"{file.parent / 'vocab.txt'}: repeats a piece")
    if len(known.keys() & vocab.keys()) < len(vocab) // 2:
        raise InputError(f"{file}: its pieces are not those of vocab.txt beside it")
    return [piece._replace(kind=_UNKNOWN) if piece.text == "[UNK]" else piece for piece in made]


def _normalizers(read: _File, family: _Family, settings: Mapping[str, Any]) -> list[Any]:
    """The rules before pieces are looked for, in the order of the family's tokenizer."""
    made: list[Any] = []
    if family.albert:
        made += [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
        if not settings.get("keep_accents"):
            made += [normalizers.NFKD(), normalizers.StripAccents()]
    lower = settings.get("do_lower_case")
    if family.lower is not None and (family.lower if lower is None else lower):
        made.append(normalizers.Lowercase())
    if read.charsmap:
        if family.albert:  # the library looks the table up by graphemes, in which letters taken apart are not found
            made.append(normalizers.NFKC())
        made.append(normalizers.Precompiled(read.charsmap))
    return [*made, normalizers.Replace(Regex(" {2,}"), " ")]
