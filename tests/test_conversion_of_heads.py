"""Every head of every family that transformers saves converts, and gives transformers' logits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import bertune
from bertune.conversion import Finetuned, convert_finetuned
from bertune.errors import InputError
from bertune.inference.evaluation import infer
from bertune.tasks.pretraining import Pretraining
from bertune.tasks.registry import new_task
from tests.checkpoints.test_families import their_config
from tests.tiny import write_encoder

FAMILIES = (
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra-narrow", "albert", "modernbert",
    "modernbert-mean", "mpnet", "deberta-v3", "deberta-v2", "deberta-convolution",
)  # fmt: skip
NO_SPANS = ("eurobert", "eurobert-grouped", "nomic", "gte", "ultrabert", "ultrabert-global-first")
"""Families for which transformers has no models for questions (but UltraBERT's) and choices."""
WORDS = (
    "bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra-narrow", "electra-wide", "albert",
    "albert-wide", "modernbert", "modernbert-mean", "mpnet", "deberta-v3", "deberta-v2", "eurobert", "nomic", "gte",
)  # fmt: skip
SEQUENCE, LABELS = "AutoModelForSequenceClassification", {0: "bad", 1: "good", 2: "fine"}
HEADS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "single": ("text-classification", SEQUENCE, {"id2label": LABELS}),
    "several": (
        "multi-label-classification",
        SEQUENCE,
        {"id2label": LABELS, "problem_type": "multi_label_classification"},
    ),
    "number": ("regression", SEQUENCE, {"num_labels": 1, "problem_type": "regression"}),
    "tokens": (
        "token-classification",
        "AutoModelForTokenClassification",
        {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}},
    ),
    "span": ("question-answering", "AutoModelForQuestionAnswering", {}),
    "choice": ("multiple-choice", "AutoModelForMultipleChoice", {}),
}
ITEMS: dict[str, Any] = {
    "tokens": {"tokens": ["the", "film", "is", "good"]},
    "span": {"question": "is it good", "context": "the film is good"},
    "choice": {"context": "the film", "choices": ["is good", "is bad !"]},
}


def saved(folder: Path, family: str, model: str, settings: dict[str, Any]) -> Any:
    """A random model as transformers saves it, with a tokenizer; the model itself."""
    write_encoder(folder)
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    config = their_config(family, **settings)
    torch.manual_seed(0)
    theirs = getattr(transformers, model).from_config(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    theirs.save_pretrained(folder)
    return theirs


def logits_of(theirs: Any, features: Any) -> list[np.ndarray[Any, Any]]:
    """What transformers gives for every sequence of ours."""
    found = []
    with torch.inference_mode():
        for i in range(len(features)):
            ids = torch.as_tensor(np.asarray(features.input_ids[i], np.int64))[None]
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if getattr(theirs.config, "type_vocab_size", 0) == 2:
                inputs["token_type_ids"] = torch.as_tensor(np.asarray(features.segment_ids[i], np.int64))[None]
            if "MultipleChoice" in type(theirs).__name__:
                inputs = {name: value[None] for name, value in inputs.items()}
            out = theirs(**inputs)
            spans = "start_logits" in out
            found.append((torch.stack([out.start_logits, out.end_logits], -1) if spans else out.logits)[0].numpy())
    return found


@pytest.mark.parametrize(
    ("family", "head"),
    [(family, head) for family in FAMILIES for head in HEADS]
    + [(family, head) for family in NO_SPANS for head in HEADS if head not in {"span", "choice"}]
    + [("ultrabert", "span")],
)
def test_answers_are_those_of_transformers(tmp_path: Path, family: str, head: str) -> None:
    task, model, settings = HEADS[head]
    theirs = saved(tmp_path / "theirs", family, model, settings)
    facts = Finetuned(new_task(task), max_seq_length=32)
    convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", facts)
    ours = bertune.load(tmp_path / "ours", precision="fp32")
    item = ITEMS.get(head, "the film is good")
    features = ours.task.featurize([ours.task.example(item)], ours.tokenizer, 32, purpose="predict")
    found, expected = infer(ours.network, features).logits, logits_of(theirs, features)
    assert len(found) == len(expected) >= 1
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a).reshape(b.shape), b, atol=2e-5)
    assert len(ours.predict([item])) == 1
    back = getattr(transformers, model).from_pretrained(tmp_path / "ours").eval()
    for a, b in zip(logits_of(back, features), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize(
    ("head", "task", "told"),
    [
        ("several", "text-classification", "use --task multi-label-classification"),
        ("number", "text-classification", "use --task regression"),
        ("number", "multi-label-classification", "use --task regression"),
        ("span", "token-classification", "heads found: question-answering"),
    ],
)
def test_a_head_under_another_task_is_refused(tmp_path: Path, head: str, task: str, told: str) -> None:
    _, model, settings = HEADS[head]
    saved(tmp_path / "theirs", "bert", model, settings)
    with pytest.raises(InputError, match=told):
        convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task(task), ["a", "b"]))


def test_several_labels_are_answered_by_a_threshold_of_one_half(tmp_path: Path) -> None:
    task, model, settings = HEADS["several"]
    saved(tmp_path / "theirs", "bert", model, settings)
    convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task(task)))
    (answer,) = bertune.load(tmp_path / "ours").predict(["the film is bad"])
    assert answer["labels"] == [name for name, score in answer["scores"].items() if score >= 0.5]


def assert_same_words(folder: Path, theirs: Any, model: str) -> Any:
    """The words that we fill in, and transformers' from our folder, are those of a model of transformers."""
    ours = bertune.load(folder, precision="fp32")
    (answer,) = ours.predict(["the [MASK] is good"])
    features = ours.task.featurize([ours.task.example("the [MASK] is good")], ours.tokenizer, 32, purpose="predict")
    with torch.inference_mode():
        ids = torch.as_tensor(np.asarray(features.input_ids[0], np.int64))[None]
        back = getattr(transformers, model).from_pretrained(folder).eval()
        found = [one(input_ids=ids, attention_mask=torch.ones_like(ids)) for one in (theirs, back)]
    expected, again = (out.get("logits", out.get("prediction_logits"))[0] for out in found)
    torch.testing.assert_close(again, expected, atol=2e-5, rtol=0)
    place = int(torch.eq(ids[0], ours.tokenizer.special.mask or 0).nonzero())
    best = expected[place].softmax(-1).topk(3)
    candidates = answer["masks"][0]["candidates"][:3]
    assert [one["token"] for one in candidates] == ours.tokenizer.tokens(best.indices.tolist())
    np.testing.assert_allclose([one["score"] for one in candidates], best.values, atol=2e-5)
    return ours


@pytest.mark.parametrize("family", WORDS)
def test_masked_words_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    theirs = saved(tmp_path / "theirs", family, "AutoModelForMaskedLM", {})
    convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task("pretraining")))
    ours = assert_same_words(tmp_path / "ours", theirs, "AutoModelForMaskedLM")
    assert isinstance(ours.task, Pretraining)
    assert ours.task.own_vectors is (family == "eurobert")


@pytest.mark.parametrize("family", ["bert", "roberta", "albert", "gte"])
def test_word_vectors_of_the_heads_own(tmp_path: Path, family: str) -> None:
    theirs = saved(tmp_path / "theirs", family, "AutoModelForMaskedLM", {"tie_word_embeddings": False})
    convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task("pretraining")))
    assert assert_same_words(tmp_path / "ours", theirs, "AutoModelForMaskedLM").task.own_vectors


def test_both_heads_of_pretraining(tmp_path: Path) -> None:
    theirs = saved(tmp_path / "theirs", "bert", "AutoModelForPreTraining", {})
    convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task("pretraining")))
    assert assert_same_words(tmp_path / "ours", theirs, "AutoModelForPreTraining").task.next_sentence
    theirs = saved(tmp_path / "albert", "albert", "AutoModelForPreTraining", {})
    convert_finetuned(str(tmp_path / "albert"), tmp_path / "words", Finetuned(new_task("pretraining")))
    assert not assert_same_words(tmp_path / "words", theirs, "AutoModelForMaskedLM").task.next_sentence


def test_debertas_own_names_of_its_head(tmp_path: Path) -> None:
    """As microsoft/deberta-v3-base is stored: under lm_predictions, which transformers reads with legacy=False."""
    theirs = saved(tmp_path / "theirs", "deberta-v3", "AutoModelForMaskedLM", {"legacy": False})
    convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task("pretraining")))
    assert_same_words(tmp_path / "ours", theirs, "AutoModelForMaskedLM")


def test_heads_for_words_that_are_not_supported(tmp_path: Path) -> None:
    saved(tmp_path / "theirs", "ultrabert", "AutoModelForMaskedLM", {})
    with pytest.raises(InputError, match=r"UltraBERT's head has two layers.*convert the encoder alone"):
        convert_finetuned(str(tmp_path / "theirs"), tmp_path / "ours", Finetuned(new_task("pretraining")))
    saved(tmp_path / "electra", "electra-narrow", "AutoModelForPreTraining", {})
    with pytest.raises(InputError, match="heads found: replaced-tokens"):
        convert_finetuned(str(tmp_path / "electra"), tmp_path / "ours", Finetuned(new_task("pretraining")))
