"""SentencePiece's own files: the pieces that SentencePiece finds, at the ids of the families' tokenizers."""

import io
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import transformers

import bertune
from bertune.errors import InputError
from bertune.tokenization.tokenizer import Tokenizer
from tests.tiny import done, opinions, write_encoder, write_json, write_rows
from tests.vocabularies import write_vocab

LINES = [
    "the film is good and the actors are fine",
    "Der Film ist schön, die Schauspieler sind gut.",
    "영화가 정말 재미있어요 배우들도 좋아요",
    "今日は良い映画を見た",
    "in 1999, he paid 5,000 for 12, and 7,",
    'she said "no" and left; naïve café',
] * 4
TEXTS = [
    *LINES[:6],
    "the  film\tis\n good",
    "  spaces at both ends  ",
    "ＦＵＬＬ width ﬁ and ㎏",
    "emoji 😀😀 unknown ☃",
    "",
    "Ⅳ e\u0301 ``quoted'' 5,",
    "a\u200bb\u00a0c",
]
ROBERTA = ["<s>", "</s>", "<unk>", "<pad>", "<mask>"]


@cache
def model_bytes(kind: str) -> bytes:
    """A model trained on the lines, with the special pieces of a family."""
    special: dict[str, dict[str, Any]] = {
        "xlm-roberta": {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1},
        "deberta-v2": {
            **{"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3},
            **{"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"},
        },
        "albert": {
            **{"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "<pad>"},
            **{"control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
        },
        "kobert": {
            **{"unk_id": 0, "pad_id": 1, "bos_id": -1, "eos_id": -1, "unk_piece": "[UNK]", "pad_piece": "[PAD]"},
            **{"control_symbols": ["[CLS]", "[SEP]", "[MASK]"]},
        },
        "byte-fallback": {"unk_id": 0, "bos_id": 1, "eos_id": 2, "byte_fallback": True, "vocab_size": 420},
        "bpe": {"model_type": "bpe"},
    }
    made = io.BytesIO()
    options = {"vocab_size": 150, "hard_vocab_limit": False, "character_coverage": 1.0, "minloglevel": 9} | special[
        kind
    ]
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=made, **options)
    return made.getvalue()


def write(folder: Path, kind: str, name: str, **settings: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(model_bytes(kind))
    write_json(folder / "tokenizer_config.json", settings)
    return folder


def processor(kind: str) -> Any:
    return sentencepiece.SentencePieceProcessor(model_proto=model_bytes(kind))


def encoded(ours: Tokenizer, text: str) -> list[int]:
    return [int(index) for index in ours.encode([text])[0]]


@pytest.mark.parametrize("kind", ["xlm-roberta", "byte-fallback"])
def test_xlm_roberta_has_sentencepieces_pieces_at_its_own_ids(kind: str, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(write(tmp_path, kind, "sentencepiece.bpe.model"))
    library = processor(kind)
    for text in TEXTS:
        assert encoded(ours, text) == [index + 1 if index else 3 for index in library.encode(text)], text
    assert (ours.special.cls, ours.special.pad, ours.special.sep, ours.special.unk) == (0, 1, 2, 3)
    assert (ours.special.mask, ours.special.separators) == (library.get_piece_size() + 1, 2)


def test_camembert(tmp_path: Path) -> None:
    folder = write(tmp_path, "xlm-roberta", "sentencepiece.bpe.model", tokenizer_class="CamembertTokenizer")
    ours, library = Tokenizer.from_folder(folder), processor("xlm-roberta")
    for text in TEXTS:
        assert encoded(ours, text) == [index + 4 if index else 3 for index in library.encode(text)], text
    assert (ours.special.cls, ours.special.pad, ours.special.sep) == (5, 1, 6)


@pytest.mark.parametrize("lower", [False, True])
def test_deberta_has_the_files_own_ids_and_a_mask_behind_them(lower: bool, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(write(tmp_path, "deberta-v2", "spm.model", do_lower_case=lower, vocab_type="spm"))
    library = processor("deberta-v2")
    for text in TEXTS:
        assert encoded(ours, text) == library.encode(text.lower() if lower else text), text
    assert ours.special.mask == library.get_piece_size()
    assert (ours.special.pad, ours.special.cls, ours.special.sep, ours.special.unk) == (0, 1, 2, 3)
    assert bool(ours.do_lower_case) is lower


def by_albert(library: Any, text: str, *, lower: bool, accents: bool = False) -> list[str]:
    """The pieces as ALBERT's and KoBERT's own programs find them: cleaned text, and digits apart from a comma."""
    text = " ".join(text.strip().split()).replace("``", '"').replace("''", '"')
    if not accents:
        text = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    found: list[str] = []
    for piece in library.encode(text.lower() if lower else text, out_type=str):
        if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
            parts = library.encode(piece[:-1].replace("▁", ""), out_type=str)
            if piece[0] != "▁" and parts[0][0] == "▁":
                parts = parts[1:] if len(parts[0]) == 1 else [parts[0][1:], *parts[1:]]
            found += [*parts, piece[-1]]
        else:
            found.append(piece)
    return found


@pytest.mark.parametrize("accents", [False, True])
def test_albert_cleans_as_its_program_does(accents: bool, tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(write(tmp_path, "albert", "spiece.model", keep_accents=accents))
    library = processor("albert")
    for text in TEXTS:
        expected = [library.piece_to_id(piece) for piece in by_albert(library, text, lower=True, accents=accents)]
        assert encoded(ours, text) == expected, text
    assert ours.do_lower_case


def test_kobert_has_the_ids_of_its_vocabulary(tmp_path: Path) -> None:
    library = processor("kobert")
    pieces = [library.id_to_piece(index) for index in range(library.get_piece_size())]
    order = [*pieces[:5], *reversed(pieces[5:])]
    folder = write(tmp_path, "kobert", "tokenizer_78b3253a26.model", tokenizer_class="KoBertTokenizer")
    write_vocab(folder, order)
    write_json(folder / "config.json", {"model_type": "bert"})
    ours = Tokenizer.from_folder(folder)
    for text in TEXTS:
        expected = [order.index(p) if p in order else 0 for p in by_albert(library, text, lower=False)]
        assert encoded(ours, text) == expected, text
    assert (ours.special.unk, ours.special.pad, ours.special.cls, ours.special.sep) == (0, 1, 2, 3)
    assert ours.tokens(ours.encode(["영화"])[0])[0].startswith("▁")


@pytest.mark.parametrize(
    ("kind", "name", "theirs"),
    [
        ("xlm-roberta", "sentencepiece.bpe.model", transformers.XLMRobertaTokenizer),
        ("deberta-v2", "spm.model", transformers.DebertaV2Tokenizer),
    ],
)
def test_transformers_reads_the_same_folder_and_what_is_saved_alike(
    kind: str, name: str, theirs: Any, tmp_path: Path
) -> None:
    """On texts that need no normalisation, whose table transformers 5 leaves out where there is no tokenizer.json."""
    folder = write(tmp_path / "theirs", kind, name)
    write_json(folder / "config.json", {"model_type": kind})
    ours = Tokenizer.from_folder(folder)
    ours.save(tmp_path / "saved", max_length=64)
    read, saved = theirs.from_pretrained(folder), transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert Tokenizer.from_folder(tmp_path / "saved").fingerprint == ours.fingerprint
    special = ours.special
    for text in TEXTS[:4]:
        expected = [special.cls, *encoded(ours, text), special.sep]
        assert read(text)["input_ids"] == expected, text
        assert saved(text)["input_ids"] == expected, text
    one, two = encoded(ours, TEXTS[0]), encoded(ours, TEXTS[1])
    pair = [special.cls, *one, *[special.sep] * special.separators, *two, special.sep]
    assert saved(TEXTS[0], TEXTS[1])["input_ids"] == pair
    assert read(TEXTS[0], TEXTS[1])["input_ids"] == pair
    for text in TEXTS:
        assert saved(text, add_special_tokens=False)["input_ids"] == encoded(ours, text), text


def test_special_pieces_in_a_text_are_text(tmp_path: Path) -> None:
    ours = Tokenizer.from_folder(write(tmp_path, "deberta-v2", "spm.model"))
    found = encoded(ours, "the [CLS] film [MASK]")
    assert not {ours.special.cls, ours.special.mask} & set(found)


def test_a_folder_without_tokenizer_json_trains_and_predicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """mDeBERTa as it is published: config, weights, spm.model."""
    sizes = processor("deberta-v2").get_piece_size()
    theirs = transformers.DebertaV2Config(
        vocab_size=sizes + 10, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, relative_attention=True, pos_att_type=["p2c", "c2p"], position_buckets=8,
        share_att_key=True, norm_rel_ebd="layer_norm", position_biased_input=False,
    )  # fmt: skip
    source = tmp_path / "mdeberta"
    transformers.DebertaV2Model(theirs).save_pretrained(source)
    write(source, "deberta-v2", "spm.model", do_lower_case=False, vocab_type="spm")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options = ["--max-steps", 1, "--max-seq-length", 24, "--batch-size", 8, "--device", "cpu"]
    done(
        capsys, "train", "--task", "text-classification", "--encoder", source, "--train", data, "--validation", data,
        "--output", tmp_path / "out", *options,
    )  # fmt: skip
    answer = bertune.load(tmp_path / "out", precision="fp32", device="cpu").predict([TEXTS[0]])[0]
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    read = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    scores = model(**read(TEXTS[0], return_tensors="pt")).logits.detach().softmax(-1)[0]
    assert answer["scores"]["good"] == pytest.approx(float(scores[model.config.label2id["good"]]), abs=1e-5)


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="made by BPE; unigrams are read"):
        Tokenizer.from_folder(write(tmp_path / "bpe", "bpe", "spm.model"))
    with pytest.raises(InputError, match="how XLNetTokenizer arranges SentencePiece's pieces is not known"):
        Tokenizer.from_folder(write(tmp_path / "xlnet", "albert", "spiece.model", tokenizer_class="XLNetTokenizer"))
    with pytest.raises(InputError, match=r"tokenizer\.model: nothing says whose tokenizer it is"):
        Tokenizer.from_folder(write(tmp_path / "other", "albert", "tokenizer.model"))
    broken = write(tmp_path / "broken", "deberta-v2", "spm.model")
    (broken / "spm.model").write_bytes(model_bytes("deberta-v2")[:500])
    with pytest.raises(InputError, match=r"spm\.model: not a SentencePiece model"):
        Tokenizer.from_folder(broken)
    (broken / "spm.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(InputError, match=r"spm\.model: a Git LFS pointer"):
        Tokenizer.from_folder(broken)
    with pytest.raises(InputError, match=r"lacks \[CLS\], \[SEP\]"):
        Tokenizer.from_folder(write(tmp_path / "xlmr", "xlm-roberta", "spm.model"))
    folder = write(tmp_path / "kobert", "kobert", "kobert.model", tokenizer_class="KoBertTokenizer")
    write_vocab(folder, ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]", *"甲乙丙丁戊己庚辛"])
    with pytest.raises(InputError, match=r"not those of vocab\.txt beside it"):
        Tokenizer.from_folder(folder)


def test_bert_with_word_pieces_beside_another_model_file_is_bert(tmp_path: Path) -> None:
    """A `.model` file of something else does not turn a BERT folder into one of SentencePiece."""
    folder = write_encoder(tmp_path / "bert")
    (folder / "old.model").write_bytes(b"not a tokenizer")
    assert Tokenizer.from_folder(folder).tokenize("the film") == ["the", "film"]
