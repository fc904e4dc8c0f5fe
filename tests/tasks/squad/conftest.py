"""A small vocabulary, and questions in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bertune.tasks.squad.reading import Answer, QuestionExample
from bertune.tokenization.tokenizer import Tokenizer
from tests.vocabularies import question_vocabulary

MakeQuestion = Callable[..., QuestionExample]


@pytest.fixture(scope="session")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    file.write_text("\n".join(question_vocabulary()) + "\n", encoding="utf-8")
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
