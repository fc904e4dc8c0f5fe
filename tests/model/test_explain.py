"""Words that carry a decision: they add up to it, they are the right ones, and what cannot be explained is refused."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertune
from bertune.errors import InputError
from bertune.model.explain import TOLERANCE, Explanation, explain
from bertune.model.use import Model
from tests import runs, tiny

HOSTILE = '<img src=x onerror="window.hacked=1"> & good'
Models = Callable[[str], Model]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A tiny model of a task, computing in full precision."""
    root, made = tmp_path_factory.mktemp("explained"), dict[str, Model]()

    def model(task: str) -> Model:
        if task not in made:
            runs.start(root / task / "run", runs.prepare(root / task, task))
            made[task] = bertune.load(root / task / "run", precision="fp32", device="cpu")
        return made[task]

    return model


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt which of four words makes an opinion good or bad."""
    folder = tmp_path_factory.mktemp("learned")
    encoder = tiny.write_encoder(folder / "encoder")
    data = tiny.write_rows(folder / "train.jsonl", tiny.opinions(192))
    bertune.train(
        task="text-classification", encoder=encoder, train=data, output=folder / "run", max_seq_length=32,
        batch_size=8, learning_rate=5e-3, epochs=5, metric="loss", device="cpu",
    )  # fmt: skip
    return folder / "run"


def attributed(found: Explanation) -> float:
    return sum(word.weight for word in found.words) + found.special_weight


@pytest.mark.parametrize(
    ("task", "item"),
    [
        ("text-classification", "the film is good, really"),
        ("text-classification", "the " * 60),
        ("text-classification", "好电影 🎬 e\u0301 film"),
        ("mrpc", ("the film is good", "bad film")),
        ("mrpc", ("the film " * 20, "bad " * 30)),
        ("multi-label-classification", "the bad film"),
        ("regression", ("the film", "a film is good")),
    ],
)
def test_weights_add_up_to_the_decision(models: Models, task: str, item: Any) -> None:
    found = explain(models(task), item)
    difference = found.evidence - found.masked_evidence
    assert attributed(found) == pytest.approx(difference, abs=TOLERANCE * max(1e-3, abs(difference)) + 1e-4)
    assert found.words
    for word in found.words:
        assert found.texts[word.field][word.start : word.end] == word.word


def test_evidence_is_the_log_odds_of_the_answer_and_of_the_masked_text(models: Models) -> None:
    model = models("text-classification")
    found = explain(model, "film is bad")
    whole = model.predict(["film is bad"])[0]
    examples = [model.task.example("film is bad")]
    features = model.task.featurize(examples, model.tokenizer, model.max_seq_length, purpose="predict")
    assert model.tokenizer.special.mask is not None
    features.input_ids.values[1:-1] = model.tokenizer.special.mask
    masked = model.task.decode(model.compute_logits(features), features, examples)[0]
    assert found.label == whole["label"]
    assert found.score == whole["score"]
    for value, prediction in ((found.evidence, whole), (found.masked_evidence, masked)):
        p = prediction["scores"][found.label]
        rounding = 1e-6 / (p * (1 - p))  # scores are written with six digits
        assert value == pytest.approx(math.log(p / (1 - p)), abs=1e-4 + rounding)


def test_of_two_labels_one_speaks_against_the_other(models: Models) -> None:
    model = models("text-classification")
    one, other = (explain(model, "the film is good", label=label) for label in model.task.labels)  # type: ignore[attr-defined]
    weights = [[word.weight for word in found.words] for found in (one, other)]
    assert np.array(weights[0]) == pytest.approx(-np.array(weights[1]), abs=1e-4)


def test_the_word_that_decides_has_the_greatest_weight(learned: Path) -> None:
    """Where words decide: in the half of the rows whose masked text has the other label.

    In the others it has theirs already, so that words add little or nothing to it.
    """
    model = bertune.load(learned, device="cpu")
    deciding = {"good": {"good", "fine"}, "bad": {"bad", "awful"}}
    for_the_label = []
    for row in tiny.opinions(40, seed=7):
        found = explain(model, row["text"])
        assert found.label == row["label"]
        if abs(found.evidence - found.masked_evidence) > 0.1:
            assert max(found.words, key=lambda word: abs(word.weight)).word in deciding[str(row["label"])]
        if found.masked_evidence < 0:
            for_the_label.append(max(found.words, key=lambda word: word.weight).word in deciding[str(row["label"])])
    assert len(for_the_label) == 20
    assert all(for_the_label)


def test_a_text_beyond_the_longest_sequence_is_cut_and_says_so(models: Models) -> None:
    model = models("text-classification")
    found = explain(model, "film " * 60)
    assert found.truncated
    assert len(found.words) == model.max_seq_length - 2
    assert not explain(model, "film").truncated


def test_the_model_goes_on_as_before(learned: Path) -> None:
    model = bertune.load(learned, device="cpu")
    before = model.predict(["the film is fine", "awful"])
    explain(model, "the film is fine")
    assert model.predict(["the film is fine", "awful"]) == before
    assert all(module.training is False for module in model.network.modules())


@pytest.mark.parametrize(
    ("task", "item", "label", "expected"),
    [
        ("text-classification", "good", "excellent", "'excellent' is none of the model's: bad, good"),
        ("regression", ("a", "b"), "good", "answers with a number"),
        ("token-classification", "Anna lives in Rome", None, "models for token-classification cannot be explained"),
        ("embedding", "a text", None, "models for embedding cannot be explained"),
        ("text-classification", 7, None, "7"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    models: Models, task: str, item: Any, label: str | None, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        explain(models(task), item, label=label)


@pytest.mark.parametrize("task", ["text-classification", "multi-label-classification", "mrpc"])
@pytest.mark.parametrize("long_text", ["window", "head-tail"])
def test_windows_and_texts_without_their_middle(models: Models, task: str, long_text: str) -> None:
    """Evidence is that of the answer, over all windows; words add up to it, each once though two windows show it."""
    plain = models(task)
    model = dataclasses.replace(
        plain, task=plain.task.with_options(dataclasses.replace(plain.task.options, long_text=long_text))
    )
    text = "good " * 10 + "the film " * 30 + "bad film"
    item: Any = (text, "a good film") if task == "mrpc" else text
    found = explain(model, item)
    assert attributed(found) == pytest.approx(found.evidence - found.masked_evidence, abs=2 * TOLERANCE)
    assert found.completeness_error <= TOLERANCE * max(1e-3, abs(found.evidence - found.masked_evidence))
    (prediction,) = model.predict([item])
    scores = prediction["scores"]
    assert found.score == pytest.approx(scores[found.label])
    if task != "multi-label-classification":
        assert found.evidence == pytest.approx(math.log(found.score / (1 - found.score)), abs=1e-3)
    words = [word.word for word in found.words if word.field == "text"]
    if long_text == "window":
        assert words == text.split()
        assert not found.truncated
    else:
        assert len(words) < len(text.split())
        assert words[0] == "good"
        assert words[-2:] == ["bad", "film"]
        assert found.truncated
    assert [word.word for word in found.words if word.field == "pair"] == (
        ["a", "good", "film"] if task == "mrpc" else []
    )


def test_a_word_of_a_window_carries_the_answer(learned: Path) -> None:
    model = bertune.load(learned, device="cpu")
    model.task = model.task.with_options(type(model.task.options)(long_text="window"))
    text = "the film is " * 7 + "awful " + "the film is " * 7  # in the middle, which both windows show
    found = explain(model, text)
    assert max(found.words, key=lambda word: abs(word.weight)).word == "awful"


class OwnPieces:
    """A task that adds a word of its own to every text."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def featurize(self, examples: Any, tokenizer: Any, length: int, **how: Any) -> Any:
        changed = [dataclasses.replace(one, text=f"own {one.text}") for one in examples]
        return self._task.featurize(changed, tokenizer, length, **how)


def test_a_task_that_reads_other_pieces_is_refused(learned: Path) -> None:
    model = bertune.load(learned, device="cpu")
    model.task = OwnPieces(model.task)  # type: ignore[assignment]
    with pytest.raises(InputError, match="reads other pieces than those of the text's words"):
        explain(model, "the film is good")


def test_notebooks_show_texts_inert(models: Models) -> None:
    shown = explain(models("text-classification"), HOSTILE)._repr_html_()
    assert "<img" not in shown
    assert "&lt;" in shown
    assert shown.count("<span") == shown.count("</span>") > 5


def test_command(learned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = tiny.done(capsys, "explain", "--model", learned, "--text", "the film is awful", "--json", "--device", "cpu")
    answer, expected = json.loads(told.out), explain(bertune.load(learned, precision="fp32"), "the film is awful")
    assert answer["label"] == "bad"
    assert [word["weight"] for word in answer["words"]] == pytest.approx([word.weight for word in expected.words])
    table = tiny.done(capsys, "explain", "--model", learned, "--text", "[red]awful[/red]", "--device", "cpu").out
    assert "awful" in table
    assert "masked" in table
    wrong = tiny.bertune(capsys, "explain", "--model", learned, "--text", "x", "--label", "no")
    assert wrong.status == 2
    assert "none of the model's" in wrong.err
