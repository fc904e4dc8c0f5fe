"""A vocabulary of letters and a few pieces, for tests of tokenizers."""

from pathlib import Path

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_LETTERS = [chr(code) for code in range(0x21, 0x7F)] + list("éσςäßи世界।\ue000")
_PIECES = ["mask", "hello", "##llo", "wor", "##ld", "ab", "##cd"]
VOCAB = [*SPECIAL, *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *_PIECES]


def write_vocab(folder: Path, tokens: list[str]) -> Path:
    """A folder's vocab.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder / "vocab.txt"
