"""A small vocabulary, and questions in one line."""

import string
from collections.abc import Callable
from pathlib import Path

import pytest

from bertune.tasks.squad.reading import Answer, QuestionExample
from bertune.tokenization.tokenizer import Tokenizer

CHINESE = "游戏由韩国公司开发与行玩家以水枪打敌人泡即为一踢爆日本東京語"
KANA = "はひらがなカタ"
MakeQuestion = Callable[..., QuestionExample]


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    letters = string.ascii_lowercase + string.digits
    words = ["the", "team", "won", "in", "paris", "who", "where", "play", "##ed", "##ing", "##s", "new", "york"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *letters, *(f"##{letter}" for letter in letters)]
    tokens += [*string.punctuation, *dict.fromkeys(CHINESE + KANA), *(f"##{kana}" for kana in KANA), "。", "？"]
    tokens += ["ᄒ", "##ᅡ", "##ᆫ"]  # a Hangul syllable that lower-casing takes apart
    file = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    file.write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tokenizer(vocab_file: Path) -> Tokenizer:
    return Tokenizer.from_vocab(vocab_file)


@pytest.fixture(scope="session")
def google_tokenizer(shared: Path) -> Tokenizer:
    return Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt")


@pytest.fixture(scope="session")
def make_question() -> MakeQuestion:
    def make(context: str, *answers: str, question: str = "who won?", name: str = "q") -> QuestionExample:
        golds = tuple(Answer(text, context.find(text)) for text in answers)
        return QuestionExample(name, question, context, golds, not golds, None, "here")

    return make
