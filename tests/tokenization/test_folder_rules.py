"""Tokenizers' files as people have them: read as transformers reads them, or refused by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import transformers
from tokenizers import models, pre_tokenizers, trainers

from bertune.errors import InputError
from bertune.features import Ragged
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.unknown import unknown_share, warn_of_unknown
from tests.tiny import VOCABULARY, write_json
from tests.vocabularies import SPECIAL, write_vocab

TEXTS = ["Hello world, it's fine!", " two  spaces", "", "naïve 游戏", "a<b>"]


def byte_pairs(folder: Path) -> Path:
    """vocab.json and merges.txt as RoBERTa's releases have them."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["hello world it is fine", "two spaces hello"] * 5, trainer)
    folder.mkdir()
    backend.model.save(str(folder))
    return folder


@pytest.mark.parametrize("space", [False, True])
def test_vocab_json_and_merges(tmp_path: Path, space: bool) -> None:
    folder = byte_pairs(tmp_path / "roberta")
    write_json(folder / "tokenizer_config.json", {"add_prefix_space": space, "tokenizer_class": "RobertaTokenizer"})
    ours = Tokenizer.from_folder(folder)
    theirs = transformers.RobertaTokenizer.from_pretrained(folder)
    encoded = ours.encode(TEXTS)
    for index, text in enumerate(TEXTS):
        assert list(encoded[index]) == theirs(text, add_special_tokens=False)["input_ids"], text
    assert ours.special.separators == 2
    (folder / "merges.txt").unlink()
    with pytest.raises(InputError, match=r"nor vocab\.json with merges\.txt"):
        Tokenizer.from_folder(folder)


@pytest.mark.parametrize("place", ["added_tokens_decoder", "added_tokens.json"])
def test_added_tokens_are_found_in_texts(tmp_path: Path, place: str) -> None:
    folder = write_vocab(tmp_path / "bert", list(VOCABULARY)).parent
    count = len(VOCABULARY)
    config: dict[str, object] = {"do_lower_case": True, "tokenizer_class": "BertTokenizer"}
    if place == "added_tokens.json":
        write_json(folder / place, {"[E1]": count, "[E2]": count + 1})
    else:
        config[place] = {
            str(count + i): {"content": f"[E{i + 1}]", "special": bool(i), "normalized": False} for i in range(2)
        }
    write_json(folder / "tokenizer_config.json", config)
    ours = Tokenizer.from_folder(folder)
    assert ours.tokenize("the [E1] film [E2] .") == ["the", "[E1]", "film", "[E2]", "."]
    assert ours.vocab_size == count + 2
    ours.save(tmp_path / "saved", max_length=16)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.tokenize("the [E1] film [E2] .") == ["the", "[E1]", "film", "[E2]", "."]
    assert Tokenizer.from_folder(tmp_path / "saved").tokenize("[CLS] [E2]") == ours.tokenize("[CLS] [E2]")


def test_rules_without_a_template_are_saved_with_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = write_vocab(tmp_path / "bert", list(VOCABULARY)).parent
    Tokenizer.from_folder(folder).save(tmp_path / "plain", max_length=16)
    rules = json.loads((tmp_path / "plain/tokenizer.json").read_text())
    write_json(tmp_path / "plain/tokenizer.json", rules | {"post_processor": None})
    caplog.clear()
    ours = Tokenizer.from_folder(tmp_path / "plain")
    assert "its template does not put [CLS] before a text" in caplog.text
    ours.save(tmp_path / "saved", max_length=16)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs.tokenize("a film", add_special_tokens=True) == ["[CLS]", "a", "film", "[SEP]"]
    pair = theirs("a", "film")
    assert theirs.convert_ids_to_tokens(pair["input_ids"]) == ["[CLS]", "a", "[SEP]", "film", "[SEP]"]
    caplog.clear()
    Tokenizer.from_folder(tmp_path / "saved")
    assert not caplog.text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("HerbertTokenizer", "Moses"),
        ("BertweetTokenizer", "tweets"),
        ("PhobertTokenizer", "bpe.codes"),
        ("RoFormerTokenizerFast", "jieba"),
    ],
)
def test_tokenizers_with_rules_of_their_own_are_refused(tmp_path: Path, name: str, told: str) -> None:
    folder = write_vocab(tmp_path, [*SPECIAL, "a"]).parent
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": name})
    with pytest.raises(InputError, match=f"its tokenizer is {name}, which is not supported.*{told}.*Way out"):
        Tokenizer.from_folder(folder)


def test_pieces_of_sentencepiece_without_its_file_are_refused(tmp_path: Path) -> None:
    folder = write_vocab(tmp_path, [*SPECIAL, *"가나다", "▁가", "▁나"]).parent
    with pytest.raises(InputError, match=r"SentencePiece's pieces.*put SentencePiece's own file"):
        Tokenizer.from_folder(folder)
    (folder / "vocab.txt").rename(folder / "spiece.model")
    with pytest.raises(InputError, match=r"spiece\.model: not a SentencePiece model"):
        Tokenizer.from_folder(folder)


def test_casing_that_nothing_says_is_the_vocabularys(tmp_path: Path) -> None:
    small = write_vocab(tmp_path / "small", [*SPECIAL, *"abc", "<S>"]).parent
    cased = write_vocab(tmp_path / "cased", [*SPECIAL, *"abcABC"]).parent
    assert Tokenizer.from_folder(small).tokenize("A") == ["a"]
    assert Tokenizer.from_folder(cased).tokenize("A") == ["A"]
    assert Tokenizer.from_folder(cased, do_lower_case=True).tokenize("A") == ["a"]


def test_texts_that_the_vocabulary_cannot_spell_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ours = Tokenizer.from_folder(write_vocab(tmp_path, [*SPECIAL, *"abcd"]).parent)
    unknown, some = ours.encode(["日 本 a"]), ours.encode(["a b c d z"])
    cls, sep = ours.special.cls, ours.special.sep
    whole = Ragged.from_lengths(np.array([cls, *unknown[0], sep], np.int32), np.array([5]))
    assert unknown_share(whole, ours) == pytest.approx(2 / 3)
    assert unknown_share(some, ours) == pytest.approx(1 / 5)
    caplog.clear()
    warn_of_unknown(some, ours, "dev.tsv")
    assert not caplog.text
    warn_of_unknown(whole, ours, "train.tsv")
    assert "train.tsv: 67% of its tokens are [UNK]" in caplog.text


@pytest.mark.parametrize(
    "said",
    [
        {"strip_accents": False},
        {"strip_accents": True, "do_lower_case": False},
        {"tokenize_chinese_chars": False},
        {"strip_accents": None, "tokenize_chinese_chars": True},
    ],
)
def test_settings_go_before_what_tokenizer_json_says(tmp_path: Path, said: dict[str, object]) -> None:
    write_vocab(tmp_path, [*VOCABULARY, "ë", "游戏"])
    transformers.BertTokenizerFast.from_pretrained(tmp_path).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    write_json(tmp_path / "tokenizer_config.json", settings | said)
    texts = ["Zoë's café", "naïve 游戏 good", "Das Über-Ë"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    found = Tokenizer.from_folder(tmp_path).encode(texts)
    assert [found[i].tolist() for i in range(len(texts))] == expected


@pytest.mark.parametrize(
    "said",
    [
        {"additional_special_tokens": ["<x>"]},
        {"extra_special_tokens": {"x_token": "<x>"}},
        {"added_tokens_decoder": {"5": {"content": "<x>", "special": True, "normalized": False}}},
    ],
)
def test_special_tokens_of_the_vocabulary_are_found_in_texts(tmp_path: Path, said: dict[str, object]) -> None:
    words = [*VOCABULARY[:5], "<x>", *VOCABULARY[5:]]
    write_vocab(tmp_path, words)
    write_json(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", **said})
    texts = ["the <x> film", "<x>good<x>", "the film"]
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in texts]
    found = Tokenizer.from_folder(tmp_path).encode(texts)
    assert [found[i].tolist() for i in range(len(texts))] == expected
    assert found[1].tolist().count(words.index("<x>")) == 2
