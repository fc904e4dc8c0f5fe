"""Loaded models survive pickle and deepcopy, packed and quantized ones too."""

import copy
import pickle
from pathlib import Path

import pytest

import bertune
from bertune.embedding import Embedder
from bertune.encoder import int8
from tests.tiny import opinions, write_encoder

TEXTS = ["the good film", "bad", ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("copies")
    data = place / "train.csv"
    data.write_text("text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in opinions(16)))
    bertune.train(
        task="text-classification",
        encoder=write_encoder(place / "encoder"),
        train=data,
        output=place / "model",
        max_steps=2,
        max_seq_length=32,
        device="cpu",
    )
    return place / "model"


@pytest.mark.parametrize("precision", ["fp32", "bf16", "auto", "int8"])
def test_copies_give_the_same_answers(folder: Path, precision: str) -> None:
    if precision == "int8" and not int8.supported():
        pytest.skip("this processor has no 8-bit products")
    model = bertune.load(folder, device="cpu", precision=precision)
    model.reference = None
    expected = model.predict(TEXTS)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    copies.append(pickle.loads(pickle.dumps(copies[1])))
    assert all(one.predict(TEXTS) == expected for one in copies)
    assert model.predict(TEXTS) == expected


def test_copies_of_an_int8_model_that_was_not_yet_checked(folder: Path) -> None:
    if not int8.supported():
        pytest.skip("this processor has no 8-bit products")
    model = pickle.loads(pickle.dumps(bertune.load(folder, device="cpu", precision="int8")))
    assert [answer["label"] for answer in model.predict(TEXTS)]
    assert model.reference is None


def test_embedders(tmp_path: Path) -> None:
    embedder = Embedder(write_encoder(tmp_path), device="cpu")
    expected = embedder(TEXTS)
    for one in (copy.deepcopy(embedder), pickle.loads(pickle.dumps(embedder))):
        assert (one(TEXTS) == expected).all()
