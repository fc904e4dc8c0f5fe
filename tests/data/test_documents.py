"""Text as documents and sentences, tokenized into shards, and the sequences laid over them."""

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bertune.data.documents import (
    corpus_kind,
    find_files,
    meaning_of_lines,
    read_documents,
    read_texts,
    split_sentences,
)
from bertune.errors import InputError
from bertune.pretraining import token_corpus as shards
from bertune.pretraining.sequences import FullSequences, PairRules, pair_sequences
from bertune.pretraining.token_corpus import CorpusForm, TokenCorpus, tokenized
from bertune.tokenization.tokenizer import Tokenizer
from tests import tiny

SENTENCES = "One two.\nThree four five.\n\n\nSix.\nSeven eight!\n\n  \nNine"
WORDS = ("good", "bad", "film", "the", "awful", "fine", "is")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(tiny.VOCABULARY) + "\n", encoding="utf-8")
    return Tokenizer.from_vocab(path)


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["text.txt", "text.txt.gz", "text"])
def test_sentences_a_line_with_blank_lines_between_documents(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, SENTENCES)
    assert meaning_of_lines([path]) == "sentences"
    found = [(d.line, d.sentences) for d in read_documents(path, "sentences")]
    assert found == [(1, ["One two.", "Three four five."]), (5, ["Six.", "Seven eight!"]), (9, ["Nine"])]


def test_documents_a_line_in_text_and_tables(tmp_path: Path) -> None:
    texts = ["One two. Three four?", "Five."]
    plain = write(tmp_path / "text.txt", "\n".join(texts) + "\n")
    assert meaning_of_lines([plain]) == "documents"
    expected = [["One two.", "Three four?"], ["Five."]]
    assert [d.sentences for d in read_documents(plain, "documents")] == expected
    for name in ("text.jsonl", "text.jsonl.gz", "text.csv", "text.parquet"):
        table = tiny.write_rows(tmp_path / name, [{"text": text, "id": i} for i, text in enumerate(texts)])
        assert [d.sentences for d in read_documents(table, "documents")] == expected
        assert [text for _, text in read_texts(table)] == texts


def test_sentences_are_told_apart_in_several_scripts() -> None:
    assert split_sentences('He said "no." Then 3.5 left… Why?! 今天很好。他走了！\nOn') == [
        'He said "no."',
        "Then 3.5 left…",
        "Why?!",
        "今天很好。",
        "他走了！",
        "On",
    ]
    assert split_sentences("  \n ") == []


def test_bad_files_are_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    binary = tmp_path / "model.bin"
    binary.write_bytes(bytes(range(256)) * 10)
    with pytest.raises(InputError, match=r"model\.bin, lines 1, 2, 3, … \(10 in all\): a NUL byte"):
        list(read_documents(binary, "documents"))
    with pytest.raises(InputError, match="no such file"):
        find_files([str(tmp_path / "*.none"), str(tmp_path / "absent.txt")], "--train")
    with pytest.raises(InputError, match="is a folder"):
        find_files([str(tmp_path)], "--train")
    broken = write(tmp_path / "rows.jsonl", '{"text": "a"}\n{"body": 1}\n')
    with pytest.raises(InputError, match=r"line 2.*text"):
        list(read_documents(broken, "documents"))
    empty = write(tmp_path / "empty.txt", "\n \n\n")
    with pytest.raises(InputError, match="holds no text at all"):
        tokenized([empty], tokenizer, CorpusForm("documents"), tmp_path / "cache")


def test_patterns_find_files_once(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", "c.md"):
        write(tmp_path / name, "x")
    found = find_files([str(tmp_path / "*.txt"), str(tmp_path / "a.txt")], "--train")
    assert [path.name for path in found] == ["a.txt", "b.txt"]
    assert corpus_kind(found) == "text"


def build(folder: Path, text: str, tokenizer: Tokenizer, form: CorpusForm) -> TokenCorpus:
    return tokenized([write(folder / "text.txt", text)], tokenizer, form, folder / "cache")


documents = st.lists(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=1, max_size=6), min_size=1, max_size=4), min_size=1, max_size=8
)


@settings(max_examples=30, deadline=None)
@given(documents, st.integers(1, 200), st.floats(0, 0.6))
def test_every_token_is_in_one_side_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer: Tokenizer,
    texts: list[list[list[str]]],
    characters: int,
    held: float,
) -> None:
    folder = tmp_path_factory.mktemp("corpus")
    text = "\n\n".join("\n".join(" ".join(words) for words in document) for document in texts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_CHARACTERS", characters)
        corpus = build(folder, text, tokenizer, CorpusForm("sentences", held_out=held))
    assert corpus.documents == len(texts)
    assert corpus.short == sum(len(document) == 1 for document in texts)
    assert corpus.train.total + corpus.held.total == sum(
        sum(len(sentence) for sentence in document) + 1 for document in texts
    )
    sep = tokenizer.special.sep
    found: list[str] = []
    for stream in (corpus.train, corpus.held):
        ids = np.concatenate(stream.tokens)
        assert (ids == sep).sum() == sum(len(part) - 1 for part in stream.documents)
        found += " ".join(tokenizer.tokens(np.where(ids < 0, ~ids, ids))).split("[SEP]")
    expected = [" ".join(word for sentence in document for word in sentence) for document in texts]
    assert sorted(part.strip() for part in found if part.strip()) == sorted(expected)
    sides = [
        {tuple(part.split()) for part in " ".join(tokenizer.tokens(abs_ids(s))).split("[SEP]")}
        for s in (corpus.train, corpus.held)
    ]
    assert not (sides[0] & sides[1]) - {()}, "equal texts lie on the same side"


def abs_ids(stream: shards.TokenStream) -> np.ndarray:
    ids = np.concatenate(stream.tokens)
    return np.where(ids < 0, ~ids, ids)


def test_a_corpus_is_found_again_and_built_anew_when_anything_differs(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(tmp_path, SENTENCES, tokenizer, CorpusForm())
    monkeypatch.setattr(Tokenizer, "encode", None)
    again = build(tmp_path, SENTENCES, tokenizer, CorpusForm())
    assert again.folder == first.folder
    monkeypatch.undo()
    others = [
        build(tmp_path, SENTENCES, tokenizer, form) for form in (CorpusForm("documents"), CorpusForm(held_out=0.5))
    ]
    others.append(build(tmp_path, SENTENCES + "!", tokenizer, CorpusForm()))
    assert len({corpus.folder for corpus in [first, *others]}) == 4


def test_a_stopped_build_goes_on_where_it_was(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n\n".join(f"film {'good ' * i}\nthe bad film" for i in range(1, 30))
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 100)
    whole = build(tmp_path, text, tokenizer, CorpusForm(held_out=0.2))
    expected = [np.concatenate(stream.tokens) for stream in (whole.train, whole.held)]

    encode, calls = Tokenizer.encode, []

    def failing(self: Tokenizer, texts: list[str]) -> object:
        calls.append(texts)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return encode(self, texts)

    monkeypatch.setattr(Tokenizer, "encode", failing)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(KeyboardInterrupt):
        build(other, text, tokenizer, CorpusForm(held_out=0.2))
    (stopped,) = (other / "cache").iterdir()
    assert len(list(stopped.glob("shard-*"))) == 4
    total = len(calls) - 1
    calls.clear()
    calls.extend([[]] * 5)  # no more interruptions
    resumed = build(other, text, tokenizer, CorpusForm(held_out=0.2))
    assert len(calls) - 5 == len(whole.train.tokens) - total, "shards that were whole are not tokenized again"
    for stream, ids in zip((resumed.train, resumed.held), expected, strict=True):
        np.testing.assert_array_equal(np.concatenate(stream.tokens), ids)


def test_any_number_of_workers_builds_the_same_files(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a build with others was stopped and left a later shard, but not the ones before it."""
    files = [
        write(tmp_path / f"{i}.txt", "\n\n".join(f"film {'good ' * j}\nthe bad film" for j in range(20)))
        for i in (1, 2)
    ]
    files[1].write_text(files[1].read_text("utf-8") + "\n\nanother", encoding="utf-8")
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 150)
    form = CorpusForm(held_out=0.2)
    one = tokenized(files, tokenizer, form, tmp_path / "one")
    many = tokenized(files, tokenizer, form, tmp_path / "many", workers=2)
    assert len(many.train.tokens) > 8
    assert tiny.files(many.folder) == tiny.files(one.folder)
    for name in ("shard-000002", "shard-000003"):
        shutil.rmtree(many.folder / name)
    (many.folder / "corpus.json").unlink()
    again = tokenized(files, tokenizer, form, tmp_path / "many", workers=2)
    assert tiny.files(again.folder) == tiny.files(one.folder)


@pytest.mark.parametrize("length", [8, 16, 33])
def test_full_sequences_hold_every_token_once(length: int, tmp_path: Path, tokenizer: Tokenizer) -> None:
    text = "\n\n".join(f"the {'xyz ' * i}\nbad film" for i in range(1, 20))
    corpus = build(tmp_path, text, tokenizer, CorpusForm())
    special = tokenizer.special
    sequences = FullSequences(corpus.train, special, length)
    taken = sequences.take(np.arange(len(sequences)))
    assert (taken.ids.lengths[:-1] == length).all()
    for _ in range(40):  # mapped pages are let go of in between
        np.testing.assert_array_equal(sequences.take(np.arange(len(sequences))).ids.values, taken.ids.values)
    inner = np.concatenate([taken.ids[i][1:-1] for i in range(len(sequences))])
    whole = np.concatenate(corpus.train.tokens)
    np.testing.assert_array_equal(inner, whole[: len(inner)])
    assert len(whole) - len(inner) <= 8
    assert all(taken.ids[i][0] == special.cls and taken.ids[i][-1] == special.sep for i in range(len(sequences)))


def test_pairs_follow_or_come_from_elsewhere(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_CHARACTERS", 600)
    letters = "abcdefghijklmnopqrst"
    text = "\n\n".join("\n".join(f"{letter} " * (1 + i % 4) for i in range(12)) for letter in letters)
    corpus = build(tmp_path, text, tokenizer, CorpusForm())
    assert len(corpus.train.tokens) > 1
    special = tokenizer.special
    rules = PairRules(length=16, seed=3)
    pairs = pair_sequences(corpus.folder, corpus.train, "train", rules, special)
    taken = pairs.take(np.arange(len(pairs)))
    assert taken.next_sentence is not None
    assert 0.3 < taken.next_sentence.mean() < 0.7
    assert (taken.ids.lengths <= 16).all()
    assert (taken.ids.lengths == 16).mean() > 0.5
    seen: set[str] = set()
    for i, random in enumerate(taken.next_sentence):
        tokens, segments = tokenizer.tokens(taken.ids[i]), taken.segments[i]
        first, second = (" ".join(tokens).split("[SEP]")[part].replace("[CLS]", "").split() for part in (0, 1))
        assert segments.tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)
        assert first
        assert second
        assert len(set(first)) == len(set(second)) == 1
        assert (first[0] == second[0]) != bool(random)
        seen.add(first[0])
    assert seen == set(letters)
    wide = pair_sequences(corpus.folder, corpus.train, "train", rules, replace(special, separators=2))
    one, other = wide.take(np.arange(5)), pairs.take(np.arange(5))
    for i in range(5):
        ids, end = other.ids[i].tolist(), other.ids[i].tolist().index(special.sep)
        assert one.ids[i].tolist() == [*ids[:end], special.sep, *ids[end:]]
        assert one.segments[i].tolist() == [0, *other.segments[i].tolist()]
    again = pair_sequences(corpus.folder, corpus.train, "train", rules, special)
    np.testing.assert_array_equal(again.take(np.arange(5)).ids.values, pairs.take(np.arange(5)).ids.values)


def test_next_sentence_needs_two_documents(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = build(tmp_path, "the film\nbad\n\ngood", tokenizer, CorpusForm())
    with pytest.raises(InputError, match="at least two documents"):
        pair_sequences(corpus.folder, corpus.train, "train", PairRules(16), tokenizer.special)


def test_words_between_spaces_join_their_pieces(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = build(tmp_path, "xyz, goodq", tokenizer, CorpusForm("documents", words="spaces"))
    ids = corpus.train.tokens[0]
    assert tokenizer.tokens(np.where(ids < 0, ~ids, ids)) == ["x", "##y", "##z", ",", "good", "##q", "[SEP]"]
    assert (ids < 0).tolist() == [False, True, True, False, False, True, False]
    described = json.loads((corpus.folder / "corpus.json").read_text())
    assert described["documents"] == 1


def test_damaged_shards_are_told(tmp_path: Path, tokenizer: Tokenizer) -> None:
    corpus = build(tmp_path, SENTENCES, tokenizer, CorpusForm())
    shard = corpus.folder / "shard-000000"
    for path in (shard / "train-tokens.npy", shard / "shard.json", corpus.folder / "corpus.json"):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match=rf"{corpus.folder.name}: damaged .*{path.name}.* remove this folder"):
            build(tmp_path, SENTENCES, tokenizer, CorpusForm())
        path.write_bytes(data)
    (shard / "shard.json").unlink()
    with pytest.raises(InputError, match="0 of 1 shards are there"):
        build(tmp_path, SENTENCES, tokenizer, CorpusForm())
