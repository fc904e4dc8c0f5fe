"""Entities: the conformance checks, alignment, windows, predictions, the folder in transformers."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

import bertune
from bertune.conformance import tiny_encoder
from bertune.data.windows import place_windows
from bertune.errors import InputError
from bertune.features import Ragged
from bertune.inference.evaluation import infer
from bertune.tasks.characters import readable_span
from bertune.tasks.options import TokenOptions
from bertune.tasks.registry import new_task
from bertune.tasks.shared.words import words_of
from bertune.tasks.tagging.examples import TaggedExample
from bertune.tasks.token_classification import TokenClassification, first_pieces
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.train import train
from tests.conformance import SAMPLES, Case, each_check
from tests.tiny import write_encoder

TEXTS = st.text(st.sampled_from("ab Z.,é中-9\n\u3000\u00adß"), max_size=40)
CASE = Case(
    "token-classification",
    SAMPLES / "entities" / "train.conll",
    bad=(("Rome B-PLACE\nis\n", "line 2"), ("Rome B-PLACE\n\nis I-PLACE\n", "line 3"), ("Rome O\n", "no entity")),
)


@each_check
def test_conforms(check: Any, tmp_path: Path) -> None:
    check(CASE, tmp_path)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))[1]


def task_with(*labels: str, **options: Any) -> TokenClassification:
    return TokenClassification(options=TokenOptions(**options), labels=labels)


def visible(text: str) -> str:
    """Without white space, and control and format characters, which the tokenizer drops."""
    return "".join(char for char in text if not char.isspace() and unicodedata.category(char) not in ("Cc", "Cf"))


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(3, 12), st.integers(0, 1 << 32))
def test_words_and_offsets_slice_the_text(tokenizer: Tokenizer, texts: list[str], length: int, seed: int) -> None:
    task = task_with("O", "B-X", "I-X")
    examples = [task.example(text) for text in texts]
    features = task.featurize(examples, tokenizer, length, purpose="predict")
    chance = np.random.default_rng(seed)
    logits = [chance.normal(0, 3, (int(n), len(task.labels))).astype(np.float32) for n in features.input_ids.lengths]
    for text, example, prediction in zip(texts, examples, task.decode(logits, features, examples), strict=True):
        covered = "".join(text[start:end] for start, end in example.words)
        assert visible(covered) == visible(text)
        last = 0
        for entity in prediction["entities"]:
            assert entity["text"] == text[entity["start"] : entity["end"]]
            assert entity["text"].strip() == entity["text"] != ""
            assert readable_span(text, entity["start"], entity["end"]) == (entity["start"], entity["end"])
            assert entity["start"] >= last
            last = entity["end"]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(1, 20), st.integers(1, 25))
def test_every_token_is_spoken_for_once(lengths: list[int], room: int, step: int) -> None:
    windows = place_windows(np.array(lengths, np.int64), room, step)
    spoken: list[list[int]] = [[] for _ in lengths]
    for example, first, end, low, high in zip(
        windows.example, windows.first, windows.end, windows.owned_first, windows.owned_end, strict=True
    ):
        assert end - first <= room
        assert first <= low <= high <= end
        spoken[example].extend(range(low, high))
    assert spoken == [list(range(length)) for length in lengths]


def test_windows_speak_where_they_show_most() -> None:
    windows = place_windows(np.array([10]), 6, 3)
    assert list(zip(windows.first, windows.end, windows.owned_first, windows.owned_end, strict=True)) == [
        (0, 6, 0, 5),
        (3, 9, 5, 7),
        (4, 10, 7, 10),
    ]


def test_words_are_tagged_at_their_first_piece(tokenizer: Tokenizer) -> None:
    example = TaggedExample("new york, ab", words_of("new york, ab"))
    ids, starts, ends = tokenizer.encode_with_offsets([example.text])
    words = first_pieces(starts, ends, [example])
    assert tokenizer.tokens(ids[0]) == ["n", "##e", "##w", "y", "##o", "##r", "##k", ",", "a", "##b"]
    assert words.tolist() == [0, -1, -1, 1, -1, -1, -1, 2, 3, -1]


def test_a_piece_over_several_words_is_the_first_ones() -> None:
    example = TaggedExample("don't", ((0, 2), (2, 5)))
    spans = Ragged.from_lists([[0]]), Ragged.from_lists([[5]])
    assert first_pieces(*spans, [example]).tolist() == [0]


def test_a_long_document_says_what_short_ones_say(tmp_path: Path) -> None:
    """With one encoder layer's worth of context cut off, only windows that own a word may speak for it."""
    _, tokenizer = tiny_encoder(tmp_path)
    task = task_with("O", "B-X", "I-X")
    (example,) = [task.example(" ".join(["ab", "c"] * 40))]
    features = task.featurize([example], tokenizer, 16, purpose="predict")
    assert len(features) > 5
    assert features.input_ids.lengths.max() == 16
    word = features.extras["word"]
    assert isinstance(word, Ragged)
    assert sorted(word.values[word.values >= 0].tolist()) == list(range(80))


def test_words_without_pieces_are_outside(tokenizer: Tokenizer) -> None:
    task = task_with("O", "B-X")
    example = task.example(["ab", "\u200b", "c"])
    features = task.featurize([example], tokenizer, 16, purpose="predict")
    logits = [np.tile(np.array([0.0, 9.0], np.float32), (int(n), 1)) for n in features.input_ids.lengths]
    (prediction,) = task.decode(logits, features, [example])
    assert [entity["text"] for entity in prediction["entities"]] == ["ab", "c"]


def test_unaligned_entities_are_widened_and_counted(tokenizer: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    task = task_with("O", "B-X", "I-X")
    data = {"text": "paris2024 ok", "entities": [[0, 5, "X"]]}
    from bertune.tasks.tagging.annotations import from_record

    example = from_record(data, "text", None, labelled=True, place=1)
    with caplog.at_level("WARNING", logger="bertune"):
        features = task.featurize([example], tokenizer, 32, purpose="train")
    assert "1 entity is not at the edges of words" in caplog.text
    tag = features.targets["tag"]
    assert isinstance(tag, Ragged)
    assert tag[0][tag[0] >= 0].tolist() == [1, 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained tiny tagger."""
    base = tmp_path_factory.mktemp("tagger")
    write_encoder(base / "encoder")
    data = base / "train.conll"
    data.write_text("the O\nfilm B-THING\nis O\ngood O\n\nbad B-THING\nfilm I-THING\n! O\n" * 6)
    train(
        task="token-classification", encoder=base / "encoder", train=data, validation=data, output=base / "model",
        max_seq_length=16, batch_size=4, learning_rate=1e-2, epochs=6, device="cpu", precision="fp32",
    )  # fmt: skip
    return base / "model"


def test_transformers_gives_the_same_logits(folder: Path) -> None:
    model = bertune.load(folder, device="cpu", precision="fp32")
    theirs = transformers.AutoModelForTokenClassification.from_pretrained(folder).eval()
    assert theirs.config.id2label == {0: "O", 1: "B-THING", 2: "I-THING"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    texts = ["the bad film", "film", "is it good, the film?"]
    features = model.task.featurize(
        [model.task.example(text) for text in texts], model.tokenizer, model.max_seq_length, purpose="predict"
    )
    for text, ours in zip(texts, infer(model.network, features).logits, strict=True):
        with torch.inference_mode():
            expected = theirs(**tokenizer(text, return_tensors="pt")).logits[0].numpy()
        assert ours.shape == expected.shape
        assert np.abs(ours - expected).max() <= 1e-4


def test_a_trained_model_finds_its_entities(folder: Path) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"accuracy", "f1", "precision", "recall", "f1/THING"} <= metrics.keys()
    assert metrics["f1"] == 1.0
    model = bertune.load(folder)
    (one, two, tokens) = model.predict(["the film is good", "", ["bad", "film", "!"]])
    assert [(entity["label"], entity["text"], entity["start"]) for entity in one["entities"]] == [("THING", "film", 4)]
    assert two == {"entities": []}
    assert [(entity["text"], entity["end"]) for entity in tokens["entities"]] == [("bad film", 8)]
    assert 0 < one["entities"][0]["score"] <= 1


def test_options_that_cannot_be(folder: Path) -> None:
    task = bertune.load(folder).task
    with pytest.raises(InputError, match="--model-scheme io: the model was trained with bio"):
        task.with_options(TokenOptions(model_scheme="io"))
    with pytest.raises(InputError, match="--doc-stride 0"):
        new_task("token-classification", {"doc_stride": 0}).featurize(
            [TaggedExample("a", ((0, 1),))], bertune.load(folder).tokenizer, 16, purpose="predict"
        )
