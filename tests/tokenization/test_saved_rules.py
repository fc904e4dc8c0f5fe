"""A saved folder gives transformers the tokens that bertune computes with, on any text."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from bertune.tokenization.saved_rules import without_google_rules
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import write_json
from tests.vocabularies import VOCAB, write_vocab

GREEK = [*"αβσςaγ", *(f"##{letter}" for letter in "αβσςab")]
SIGMAS = st.text("ΣΑσαab'. \u0301\u200b·:\u00ad\u0345-İʼ", max_size=12)
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
Both = tuple[Tokenizer, PreTrainedTokenizerBase]


def saved(folder: Path, *, lower: bool) -> Both:
    vocabulary = write_vocab(folder, list(dict.fromkeys([*VOCAB, *GREEK])))
    tokenizer = Tokenizer.from_vocab(vocabulary, do_lower_case=lower)
    tokenizer.save(folder / "saved", max_length=10**6)
    write_json(folder / "saved" / "config.json", {"model_type": "bert"})
    return tokenizer, AutoTokenizer.from_pretrained(folder / "saved")


@pytest.fixture(scope="module")
def uncased(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return saved(tmp_path_factory.mktemp("uncased"), lower=True)


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return saved(tmp_path_factory.mktemp("cased"), lower=False)


@settings(max_examples=300, deadline=None)
@given(st.one_of(SIGMAS, ANY))
@example("ΑΣ")  # final
@example("ΑΣΑ Σ ΑΣ'Α ΑΣ.")
@example("a" * 150)  # words that transformers' own BERT tokenizer gives up after 100 characters
@example("a" * 201)
@example("a\ue000b")  # private use
@example("a\U0002ceafb")  # a Chinese character younger than the library's tables
@example("a\u0378b")  # of no assigned character
def test_transformers_reads_the_same_tokens(uncased: Both, cased: Both, text: str) -> None:
    for ours, theirs in (uncased, cased):
        assert theirs.tokenize(text) == ours.tokenize(text)


def test_every_kind_of_rare_character(uncased: Both, cased: Both) -> None:
    rare = [chr(code) for code in range(0x80, 0x110000) if not 0xD800 <= code < 0xE000]
    rare = [char for char in rare if unicodedata.category(char) in ("Mn", "Mc", "Cf", "Po", "Pd", "So")]
    text = " ".join(
        f"a{char}b" for char in [*rare, *map(chr, range(0x2B740, 0x2CEB0, 7)), *map(chr, range(0xE000, 0xE100))]
    )
    for ours, theirs in (uncased, cased):
        assert theirs.tokenize(text) == ours.tokenize(text)


def test_the_saved_folder_is_read_back_as_googles(uncased: Both, cased: Both, tmp_path: Path) -> None:
    for (ours, theirs), lower in ((uncased, True), (cased, False)):
        folder = Path(theirs.name_or_path)
        again = Tokenizer.from_folder(folder)
        assert (again.fingerprint, again.do_lower_case) == (ours.fingerprint, lower)
        again.save(tmp_path / str(lower), max_length=10**6)
        assert (tmp_path / str(lower) / "tokenizer.json").read_text() == (folder / "tokenizer.json").read_text()


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_other_rules_are_not_taken_for_googles(uncased: Both, at: int) -> None:
    tree = json.loads((Path(uncased[1].name_or_path) / "tokenizer.json").read_text())
    assert without_google_rules(tree)["normalizer"]["type"] == "BertNormalizer"
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "b"}
    tree["normalizer"]["normalizers"].insert(at, rule)
    assert without_google_rules(tree) == tree
    tree["normalizer"] = {"type": "Sequence", "normalizers": [rule, tree["normalizer"]["normalizers"][-1]]}
    assert without_google_rules(tree) == tree
