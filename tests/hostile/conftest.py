"""A sound encoder, sound data and a sound model, to be spoilt."""

from pathlib import Path

import pytest

import bertune
from bertune.checkpoints.inspection import describe
from bertune.tokenization.tokenizer import Tokenizer
from tests import tiny


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `encoder`, `train.csv` and `model`. Everything is used once, so that forks start with it loaded."""
    folder = tmp_path_factory.mktemp("sound")
    encoder = tiny.write_encoder(folder / "encoder")
    Tokenizer.from_folder(encoder).save(encoder, max_length=64)
    data = tiny.write_rows(folder / "train.csv", tiny.opinions(16))
    describe(str(encoder))
    bertune.train(
        task="text-classification", encoder=encoder, train=data, output=folder / "model", epochs=1, max_seq_length=32
    )
    bertune.load(folder / "model").predict(["the film is good"])
    return folder
