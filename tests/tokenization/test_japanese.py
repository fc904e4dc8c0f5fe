"""Japanese BERT's tokenizers: the ids of transformers' BertJapaneseTokenizer, in folders as they are published."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import transformers

import bertune
from bertune.errors import InputError
from bertune.tokenization import japanese
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import done, refused, write_encoder, write_json, write_rows
from tests.vocabularies import SPECIAL, write_vocab

TEXTS = [
    "今日は良い天気です。",
    "東京都に住んでいる、３人の学生。",
    "ｶﾞｷﾞｸﾞ ㍻ ﬁ Ⅳ",
    "Hello World 2024年",
    "改行\nと\tタブ　全角スペース",
    "絵文字😀と未知の語",
    "",
    "か\u3099き",
]
CHARACTERS = "".join(dict.fromkeys("今日は良い天気です。東京都に住んで、3人の学生ガギグ平成HeloWrd2024年と"))
PIECES = [
    *SPECIAL,
    *"今日 は 良い 天気 です 。 東京 ##都 都 に 住ん で いる 、 3 人 の 学生 hello he ##llo world".split(),
]
PIECES += "wor ##ld World 2024 年 改行 と タブ ガ ##ギ ギ グ 平成 fi IV 語 未知".split()
IPADIC = {"mecab_dic": "ipadic"}


def write(folder: Path, kind: str, vocabulary: list[str], *, lower: bool = False, **more: object) -> Path:
    """A folder as Tohoku University's: the class stands in config.json, the rest in tokenizer_config.json."""
    write_vocab(folder, vocabulary)
    settings = {"do_lower_case": lower, "word_tokenizer_type": "mecab", "subword_tokenizer_type": kind}
    write_json(folder / "tokenizer_config.json", settings | {"mecab_kwargs": IPADIC} | more)
    write_json(folder / "config.json", {"model_type": "bert", "tokenizer_class": "BertJapaneseTokenizer"})
    return folder


def theirs(folder: Path, kind: str, *, lower: bool = False) -> transformers.BertJapaneseTokenizer:
    return transformers.BertJapaneseTokenizer(
        str(folder / "vocab.txt"), do_lower_case=lower, word_tokenizer_type="mecab", subword_tokenizer_type=kind,
        mecab_kwargs=dict(IPADIC),
    )  # fmt: skip


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("kind", ["character", "wordpiece"])
def test_ids_are_transformers(kind: str, lower: bool, tmp_path: Path) -> None:
    vocabulary = [*SPECIAL, *CHARACTERS] if kind == "character" else PIECES
    folder = write(tmp_path, kind, vocabulary, lower=lower)
    ours, other = Tokenizer.from_folder(folder), theirs(folder, kind, lower=lower)
    encoded = ours.encode(TEXTS)
    for index, text in enumerate(TEXTS):
        assert list(encoded[index]) == other(text, add_special_tokens=False)["input_ids"], text
    assert ours.is_self_contained is (kind == "character")
    again = pickle.loads(pickle.dumps(ours)).encode(TEXTS)
    assert all(list(again[index]) == list(encoded[index]) for index in range(len(TEXTS)))


@pytest.mark.parametrize("kind", ["character", "wordpiece"])
def test_places_of_pieces_in_the_text(kind: str, tmp_path: Path) -> None:
    vocabulary = [*SPECIAL, *CHARACTERS] if kind == "character" else PIECES
    ours = Tokenizer.from_folder(write(tmp_path, kind, vocabulary))
    text = "　今日は３人の学生"
    ids, starts, ends = (rows[0] for rows in ours.encode_with_offsets([text]))
    found = [text[start:end] for start, end in zip(starts, ends, strict=True)]
    assert "".join(found) == "今日は３人の学生"
    assert found[ours.tokens(ids).index("3")] == "３"


def test_train_save_and_load_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a published folder through training to transformers: the same tokens and the same probabilities."""
    source = write_encoder(tmp_path / "tohoku", vocab_size=len(PIECES))
    settings = {"word_tokenizer_type": "mecab", "subword_tokenizer_type": "wordpiece", "mecab_kwargs": IPADIC}
    write_vocab(source, PIECES)
    write_json(source / "tokenizer_config.json", settings | {"tokenizer_class": "BertJapaneseTokenizer"})
    rows = [{"text": text, "label": label} for text, label in [(TEXTS[0], "a"), (TEXTS[1], "b")] * 8]
    data = write_rows(tmp_path / "train.csv", rows)
    output = tmp_path / "out"
    options = ["--max-steps", 1, "--max-seq-length", 24, "--batch-size", 8, "--device", "cpu"]
    done(
        capsys, "train", "--task", "text-classification", "--encoder", source, "--train", data, "--validation", data,
        "--output", output, *options,
    )  # fmt: skip
    assert not (output / "tokenizer.json").exists()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(output).eval()
    read = transformers.AutoTokenizer.from_pretrained(output)
    assert type(read).__name__ == "BertJapaneseTokenizer"
    answers = bertune.load(output, precision="fp32", device="cpu").predict(TEXTS[:5])
    for text, answer in zip(TEXTS[:5], answers, strict=True):
        scores = model(**read(text, return_tensors="pt")).logits.detach().softmax(-1)[0]
        assert answer["scores"]["a"] == pytest.approx(float(scores[model.config.label2id["a"]]), abs=1e-5), text
    refused(capsys, tmp_path, ["export", "--model", output, "--output", tmp_path / "onnx"], "needs MeCab")


def test_what_is_not_supported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed: list[dict[str, Any]] = [{"word_tokenizer_type": "sudachi"}, {"subword_tokenizer_type": "sentencepiece"}]
    for changes in changed:
        with pytest.raises(InputError, match=r"is not supported; MeCab with word pieces or characters is\. Way out"):
            Tokenizer.from_folder(write(tmp_path, "wordpiece", PIECES, **changes))
    for own in ({"mecab_dic": None}, {"mecab_dic": "ipadic", "mecab_option": "-o /tmp/file"}, {"mecab_dic": "neologd"}):
        with pytest.raises(InputError, match="known is mecab_dic, one of ipadic, unidic_lite, unidic"):
            Tokenizer.from_folder(write(tmp_path, "wordpiece", PIECES, mecab_kwargs=own))
    monkeypatch.setattr(japanese, "_is_there", lambda package: package == "ipadic")
    with pytest.raises(InputError, match=r"MeCab, for which a package is missing: pip install fugashi \(.*japanese"):
        Tokenizer.from_folder(write(tmp_path, "wordpiece", PIECES))
    assert Tokenizer.from_folder(write(tmp_path, "character", PIECES)).vocab_size == len(PIECES)
