"""Families with tokenizers of their own: byte-level BPE (RoBERTa) and unigram (XLM-R), from text to probabilities."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers

import bertune
from tests.checkpoints.test_families import CASES, shaken
from tests.tiny import VOCABULARY, done

SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
TEXTS = ["the film is good", "Ein schöner Film!", "awful 漢字 text  with   spaces", "x"]


def byte_level_bpe() -> tokenizers.Tokenizer:
    """RoBERTa's kind of tokenizer, trained on a handful of words."""
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    special = list(SPECIAL_TOKENS)
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator(TEXTS, trainer)
    made.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


def unigram() -> tokenizers.Tokenizer:
    """XLM-R's kind of tokenizer, trained likewise."""
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.NFKC()
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(vocab_size=80, special_tokens=list(SPECIAL_TOKENS), unk_token="<unk>")
    made.train_from_iterator(TEXTS, trainer)
    single = "<s> $A </s>"
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single, f"{single} </s> $B </s>", [("<s>", 0), ("</s>", 2)]
    )
    return made


@pytest.mark.parametrize(("case", "make"), [("roberta", byte_level_bpe), ("xlm-roberta", unigram)])
def test_texts_through_a_tokenizer_of_their_own(
    case: str, make: Callable[[], tokenizers.Tokenizer], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=make(), **names, cls_token="<s>", sep_token="</s>"
    )
    special = {"pad": "<pad> (1)", "unk": "<unk> (3)", "cls": "<s> (0)", "sep": "</s> (2)", "mask": "<mask> (4)"}
    same_probabilities(case, tokenizer, special, capsys, tmp_path)


def test_mpnet_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Word pieces between RoBERTa's special tokens."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *VOCABULARY[5:], "[UNK]", "<mask>"]
    tokenizer = transformers.MPNetTokenizer(vocab={word: index for index, word in enumerate(words)})
    special = {"cls": "<s> (0)", "pad": "<pad> (1)", "sep": "</s> (2)"}
    special |= {"unk": f"[UNK] ({len(words) - 2})", "mask": f"<mask> ({len(words) - 1})"}
    same_probabilities("mpnet", tokenizer, special, capsys, tmp_path)


def test_deberta_texts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """SentencePiece's unigrams with BERT's template."""
    trained = [(piece, score) for piece, score in json.loads(unigram().to_str())["model"]["vocab"] if piece[0] != "<"]
    vocab = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0), *trained, ("[MASK]", 0.0)]
    tokenizer = transformers.DebertaV2Tokenizer(vocab=vocab)
    special = {"pad": "[PAD] (0)", "cls": "[CLS] (1)", "sep": "[SEP] (2)", "unk": "[UNK] (3)"}
    same_probabilities("deberta-v3", tokenizer, special | {"mask": f"[MASK] ({len(vocab) - 1})"}, capsys, tmp_path)


def same_probabilities(
    case: str, tokenizer: Any, special: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """From their folder: our probabilities, and theirs from what we make of it."""
    source = tmp_path / "theirs"
    tokenizer.save_pretrained(source)
    model_type, sizes = CASES[case]
    sizes = sizes | {"vocab_size": len(tokenizer)}
    config = transformers.AutoConfig.for_model(
        model_type, **sizes, id2label={0: "a", 1: "b"}, label2id={"a": 0, "b": 1}
    )
    theirs = shaken(transformers.AutoModelForSequenceClassification.from_config(config))
    theirs.save_pretrained(source)
    output = tmp_path / "ours"
    done(capsys, "convert", "--encoder", source, "--output", output, "--task", "text-classification")
    assert json.loads(done(capsys, "inspect", source, "--json").out)["special_tokens"] == special
    answers = bertune.load(output, precision="fp32", device="cpu").predict(TEXTS)
    for place in (source, output):  # theirs, and what we made of it
        read = transformers.AutoTokenizer.from_pretrained(place)
        model = transformers.AutoModelForSequenceClassification.from_pretrained(place).eval()
        for text, answer in zip(TEXTS, answers, strict=True):
            with torch.no_grad():
                logits = model(
                    **{k: v for k, v in read(text, return_tensors="pt").items() if k != "token_type_ids"}
                ).logits
            assert answer["scores"]["b"] == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-4)
