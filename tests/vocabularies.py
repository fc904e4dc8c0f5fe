"""A vocabulary of letters and a few pieces, for tests of tokenizers."""

import string
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


CHINESE = "游戏由韩国公司开发与行玩家以水枪打敌人泡即为一踢爆日本東京語"
KANA = "はひらがなカタ"


def question_vocabulary() -> list[str]:
    """Tokens that spell the questions of tests: English, Chinese, Japanese and a Hangul syllable."""
    letters = string.ascii_lowercase + string.digits
    words = ["the", "team", "won", "in", "paris", "who", "where", "play", "##ed", "##ing", "##s", "new", "york"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    tokens += [*string.punctuation, *dict.fromkeys(CHINESE + KANA), *(f"##{kana}" for kana in KANA), "。", "？"]
    tokens += ["ᄒ", "##ᅡ", "##ᆫ"]  # a Hangul syllable that lower-casing takes apart
    return tokens
