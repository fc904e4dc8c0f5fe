"""Texts read word by word: equal to the library's reading, and used where it is quicker."""

import pickle
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.tokenization import word_table
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.word_table import WordTable
from tests.vocabularies import write_vocab

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] a b ab ##a ##b ##1 A B 1 中 文 字 , . ! 。 ， — ( ) [ ] mask".split()
CHARACTERS = "abAB1 \t\n\r\0\x0b\x1c\x1f\x7f\u3000\u00a0,.!([])'-_$中文字国。，、「」【】“”…—·？"
TEXTS = st.text(st.sampled_from(CHARACTERS), max_size=30)


@pytest.fixture(scope="module", params=[True, False], ids=["uncased", "cased"])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_vocab(write_vocab(tmp_path_factory.mktemp("vocab"), WORDS), do_lower_case=request.param)


def by_library(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    ids, _, _ = tokenizer.encode_with_offsets(texts)
    return [ids[index].tolist() for index in range(len(ids))]


@settings(max_examples=400, deadline=None)
@given(st.lists(TEXTS, max_size=4))
def test_words_give_what_the_library_gives(tokenizer: Tokenizer, texts: list[str]) -> None:
    found = tokenizer.encode(texts)
    assert [found[index].tolist() for index in range(len(texts))] == by_library(tokenizer, texts)


def test_every_character_that_the_table_takes(tokenizer: Tokenizer) -> None:
    table = WordTable(tokenizer._backend, lower=bool(tokenizer.do_lower_case))
    codes = [*range(0x3100), *range(0x4DF0, 0xA010), *range(0xFF00, 0xFFF0)]
    probes = [f"a{chr(code)}b {chr(code)}1" for code in codes]
    taken = [text for text in probes if table.ids(text) is not None]
    assert 20_992 + 128 < len(taken) < 21_300  # ideographs, ASCII, and some marks
    assert [table.ids(text) for text in taken] == by_library(tokenizer, taken)


def test_other_texts_of_the_same_call_go_to_the_library(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    library = Tokenizer._by_library

    def noted(self: Tokenizer, texts: Sequence[str], *, with_spans: bool = True) -> object:
        asked.extend(texts)
        return library(self, texts, with_spans=with_spans)

    monkeypatch.setattr(Tokenizer, "_by_library", noted)
    texts = ["ab", "áb", "中 a", "Σ", ""]
    found = tokenizer.encode(texts)
    assert asked == ["áb", "Σ"]
    assert [found[index].tolist() for index in range(len(texts))] == by_library(tokenizer, texts)


def test_many_cores_read_many_texts_by_the_library(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    table = WordTable(tokenizer._backend, lower=True)
    assert table.pays_for(word_table.FEW_TEXTS)
    assert not table.pays_for(word_table.FEW_TEXTS + 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert WordTable(tokenizer._backend, lower=True).pays_for(100_000)


def test_tokens_that_a_folder_adds_are_left_to_the_library(tokenizer: Tokenizer) -> None:
    backend = pickle.loads(pickle.dumps(tokenizer))._backend
    assert WordTable(backend, lower=True).pays_for(1)
    backend.add_tokens(["ab,b"])
    assert not WordTable(backend, lower=True).pays_for(1)


def test_the_table_stays_small(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_table, "_MOST_WORDS", 3)
    table = WordTable(tokenizer._backend, lower=True)
    for text in ("a b ab", "1 a", "b " + "a" * 65, "a b 1 ab ! ,"):
        assert table.ids(text) == by_library(tokenizer, [text])[0]
        assert len(table) <= 3


def test_a_copy_begins_with_an_empty_table(tokenizer: Tokenizer) -> None:
    tokenizer.encode(["ab"])
    assert tokenizer._table
    again = pickle.loads(pickle.dumps(tokenizer))
    assert again._table is None
    assert again.encode(["ab 1"])[0].tolist() == tokenizer.encode(["ab 1"])[0].tolist()
