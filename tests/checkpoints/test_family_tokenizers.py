"""Families with tokenizers of their own: byte-level BPE (RoBERTa) and unigram (XLM-R), from text to probabilities."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers

import bertune
from tests.checkpoints.test_families import CASES, shaken
from tests.tiny import done

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
    source = tmp_path / "theirs"
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL_TOKENS, strict=True))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=make(), **names, cls_token="<s>", sep_token="</s>"
    )
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
    special = json.loads(done(capsys, "inspect", source, "--json").out)["special_tokens"]
    assert special == {
        "pad": "<pad> (1)",
        "unk": "<unk> (3)",
        "cls": "<s> (0)",
        "sep": "</s> (2)",
        "mask": "<mask> (4)",
    }
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
