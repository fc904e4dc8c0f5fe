"""Tokenizers in folders and vocabulary files: ours, other families', and damaged ones."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, processors

from bertune.errors import InputError
from bertune.tokenization.special_tokens import SpecialTokens
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import write_json
from tests.vocabularies import SPECIAL, VOCAB, write_vocab


@pytest.fixture(scope="module")
def uncased(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_vocab(write_vocab(tmp_path_factory.mktemp("vocab"), VOCAB))


@pytest.fixture(scope="module")
def cased(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return Tokenizer.from_vocab(write_vocab(tmp_path_factory.mktemp("vocab"), VOCAB), do_lower_case=False)


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
        ({"vocab.txt": "\n".join(SPECIAL), "added_tokens.json": '{"[E1]": 7}'}, r"'\[E1\]' the id 7, but .* it is 5"),
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
    assert Tokenizer.from_folder(folder).do_lower_case is False  # the vocabulary spells capitals
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
