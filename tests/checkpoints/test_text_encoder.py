"""An encoder called on texts: the vectors of transformers, for texts and pairs, whatever shares a batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, BertTokenizer

import bertune
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import write_encoder

TEXTS = ["the film is good", ("the film is bad", "is awful!"), "fine", "a " * 40]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_encoder(tmp_path / "encoder")


def test_vectors_are_those_of_transformers(folder: Path) -> None:
    output = bertune.open_encoder(folder)(TEXTS, layers=True)
    peer = AutoModel.from_pretrained(folder, output_hidden_states=True).eval()
    tokenizer = BertTokenizer.from_pretrained(folder)
    for place, item in enumerate(TEXTS):
        pair = (item,) if isinstance(item, str) else item
        inputs = tokenizer(*pair, return_tensors="pt")
        with torch.no_grad():
            found = peer(**inputs)
        assert output.tokens[place] == tokenizer.convert_ids_to_tokens(inputs["input_ids"][0])
        np.testing.assert_allclose(output.sequence_output[place], found.last_hidden_state[0], atol=1e-5)
        np.testing.assert_allclose(output.pooled_output[place], found.pooler_output[0], atol=1e-5)
        np.testing.assert_allclose(output.layers[place], torch.cat(found.hidden_states), atol=1e-5)
    assert len(output) == len(TEXTS)
    assert not output.truncated.any()


def test_one_text_gives_what_it_gives_among_others(folder: Path) -> None:
    encoder = bertune.open_encoder(folder)
    together = encoder(TEXTS, layers=True, batch_size=3)
    for place, item in enumerate(TEXTS):
        alone = encoder([item], layers=True)
        np.testing.assert_array_equal(alone.sequence_output[0], together.sequence_output[place])
        np.testing.assert_array_equal(alone.layers[0], together.layers[place])
        np.testing.assert_array_equal(alone.pooled_output[0], together.pooled_output[place])


def test_it_unpacks_into_an_encoder_and_a_tokenizer(folder: Path) -> None:
    encoder, tokenizer = bertune.open_encoder(folder)
    assert isinstance(encoder, Encoder)
    assert isinstance(tokenizer, Tokenizer)
    encoder.train()
    first, second = encoder(["the film"]), encoder(iter(["the film"]))
    np.testing.assert_array_equal(first.pooled_output, second.pooled_output)  # no dropout
    assert encoder.training
    assert bertune.open_encoder(folder).config == encoder.config


def test_long_texts_are_cut_and_layers_are_left_out(folder: Path) -> None:
    output = bertune.open_encoder(folder)(["good film", "good " * 90], max_seq_length=10)
    assert output.truncated.tolist() == [False, True]
    assert [len(tokens) for tokens in output.tokens] == [4, 10]
    assert output.sequence_output[1].shape == (10, 16)
    assert output.layers == []


def test_no_texts_give_empty_outputs(folder: Path) -> None:
    output = bertune.open_encoder(folder)([], layers=True)
    assert (output.tokens, output.sequence_output, output.layers) == ([], [], [])
    assert output.pooled_output.shape == (0, 16)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ("a single text", {}, "takes a list of texts"),
        ([3], {}, "item 0 is '3', a int"),
        ([("a", "b", "c")], {}, "expected a text or a pair"),
        (["good", ("a", None)], {}, "item 1"),
        (["good"], {"max_seq_length": 65}, "at most 64"),
        (["good"], {"max_seq_length": 2}, "must be at least 3"),
        (["good"], {"batch_size": 0}, "must be at least 1"),
    ],
)
def test_what_cannot_be_encoded_is_refused(folder: Path, texts: object, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        bertune.open_encoder(folder)(texts, **options)  # type: ignore[arg-type]


def test_minilm_gives_the_same_sentence_as_bertune_embed() -> None:
    output = bertune.open_encoder("minilm")(["where is my parcel?"])
    mean = output.sequence_output[0].mean(0)
    vector = bertune.embed(["where is my parcel?"], precision="fp32")[0]
    np.testing.assert_allclose(mean / np.linalg.norm(mean), vector, atol=1e-5)
