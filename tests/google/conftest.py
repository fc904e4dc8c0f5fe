"""Running the programs in this process on the recorded tiny encoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from bertune.tokenization.tokenizer import Tokenizer
from tests.vocabularies import question_vocabulary

Main = Callable[[Sequence[str]], int]


@dataclass(frozen=True)
class Answer:
    """What a program came to."""

    status: int
    err: str


Run = Callable[..., Answer]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Instances that run_pretraining lays out go to a folder of the test."""
    monkeypatch.setenv("BERTUNE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a program's main on arguments given in any type; its status, and what it said on stderr."""

    def go(main: Main, *arguments: object, status: int = 0) -> Answer:
        from bertune.progress import console

        capsys.readouterr()
        monkeypatch.setattr(console, "_file", None)  # the stderr of now, not of the first test
        found = main([str(argument) for argument in arguments])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert found == status, err
        return Answer(found, err)

    return go


@pytest.fixture
def tiny(shared: Path) -> list[str]:
    """Flags that name the recorded tiny encoder."""
    folder = shared / "golden/tiny"
    return [
        f"--vocab_file={folder / 'vocab.txt'}",
        f"--bert_config_file={folder / 'bert_config.json'}",
        f"--init_checkpoint={folder / 'bert_model.ckpt'}",
    ]


@pytest.fixture(scope="session")
def google_tokenizer(shared: Path) -> Tokenizer:
    return Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt")


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    file = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    file.write_text("\n".join(question_vocabulary()) + "\n", encoding="utf-8")
    return Tokenizer.from_vocab(file)
