"""Long texts by policy, in every task."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bertune
from bertune.cli.arguments import parse
from bertune.conformance import tiny_encoder
from bertune.errors import InputError
from bertune.inference.evaluation import infer
from bertune.tasks.registry import TASKS, new_task, task_kind
from bertune.tasks.shared.texts import by_example, text_features
from bertune.tasks.squad.reading import Answer
from bertune.tasks.text_classification import TextExample
from bertune.tokenization.tokenizer import Tokenizer
from bertune.training.train import train
from tests.conformance import SAMPLES, Case, each_check
from tests.tiny import opinions, write_encoder, write_rows

LETTERS = "abcdefghij"
LONG = " ".join("abcdefghijklmnopqrstuvwxyz")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"))[1]


def spelled(tokenizer: Tokenizer, examples: list[TextExample], length: int, long_text: str) -> list[str]:
    """Every sequence, [CLS] as < and [SEP] as >."""
    features = text_features(examples, tokenizer, length, {}, long_text)
    names = {"[CLS]": "<", "[SEP]": ">"}
    return [
        "".join(names.get(t, t) for t in tokenizer.tokens(ids))
        for ids in (features.input_ids[i] for i in range(len(features)))
    ]


def spread(text: str) -> str:
    return " ".join(text)


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("truncate", ["<abcdefgh>"]),
        ("head-tail", ["<abefghij>"]),
        ("window", ["<abcdefgh>", "<cdefghij>"]),
    ],
)
def test_long_texts(tokenizer: Tokenizer, long_text: str, expected: list[str]) -> None:
    assert spelled(tokenizer, [TextExample(spread(LETTERS))], 10, long_text) == expected
    assert spelled(tokenizer, [TextExample("a b")], 10, long_text) == ["<ab>"]


@pytest.mark.parametrize(
    ("long_text", "expected"),
    [
        ("truncate", ["<xy>abcde>"]),
        ("head-tail", ["<xy>aghij>"]),
        ("window", ["<xy>abcde>", "<xy>cdefg>", "<xy>efghi>", "<xy>fghij>"]),
    ],
)
def test_long_pairs(tokenizer: Tokenizer, long_text: str, expected: list[str]) -> None:
    examples = [TextExample("x y", spread(LETTERS)), TextExample(spread("abc"))]
    assert spelled(tokenizer, examples, 10, long_text) == [*expected, "<abc>"]


def test_windows_run_over_the_longer_text_of_a_pair(tokenizer: Tokenizer) -> None:
    examples = [TextExample(spread(LETTERS), "x y"), TextExample("", spread("abcdefgh")), TextExample(spread("ab"), "")]
    expected = ["<abcde>xy>", "<cdefg>xy>", "<efghi>xy>", "<fghij>xy>", "<>abcdefg>", "<>bcdefgh>", "<ab>"]
    assert spelled(tokenizer, examples, 10, "window") == expected


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 30)), min_size=1, max_size=5),
    st.integers(5, 16),
    st.sampled_from(["truncate", "head-tail", "window"]),
)
def test_every_policy_keeps_the_limit_and_says_what_is_lost(
    tokenizer: Tokenizer, sizes: list[tuple[int, int | None]], limit: int, long_text: str
) -> None:
    examples = [TextExample(spread("a" * a), None if b is None else spread("b" * b)) for a, b in sizes]
    features = text_features(examples, tokenizer, limit, {"n": np.arange(len(examples))}, long_text)
    assert features.input_ids.lengths.max() <= limit
    assert features.example_index.tolist() == sorted(features.example_index.tolist())
    assert set(features.example_index.tolist()) == set(range(len(examples)))
    assert np.asarray(features.targets["n"]).tolist() == features.example_index.tolist()
    for index, (a, b) in enumerate(sizes):
        fits = a + (b or 0) + (3 if b else 2) <= limit
        of_this = features.example_index == index
        if fits:
            assert of_this.sum() == 1
        if fits or (long_text == "window" and not b):
            assert not features.cut[of_this].any()
        elif long_text != "window":
            assert features.cut[of_this].all()


def test_windows_are_averaged(tokenizer: Tokenizer) -> None:
    features = text_features([TextExample(spread(LETTERS)), TextExample("a")], tokenizer, 10, {}, "window")
    logits = [np.array(row, np.float32) for row in ([1, 0], [3, 2], [7, 8])]
    assert by_example(logits, features, 2).tolist() == [[2, 1], [7, 8]]


def test_the_policy_is_saved_and_obeyed(tmp_path: Path) -> None:
    write_encoder(tmp_path / "encoder")
    data = write_rows(tmp_path / "train.csv", opinions(16))
    options: dict[str, Any] = {"max_seq_length": 8, "batch_size": 8, "epochs": 1, "device": "cpu", "precision": "fp32"}
    train(
        task="text-classification", encoder=tmp_path / "encoder", train=data, output=tmp_path / "model",
        long_text="window", **options,
    )  # fmt: skip
    model = bertune.load(tmp_path / "model", precision="fp32")
    long = " ".join(["good", "bad", "film"] * 8)
    features = model.task.featurize([model.task.example(long)], model.tokenizer, 8, purpose="predict")
    assert len(features) == 6
    mean = np.mean(infer(model.network, features).logits, axis=0)
    (answer,) = model.predict([long])
    assert answer["scores"]["bad"] == pytest.approx(float(np.exp(mean[0]) / np.exp(mean).sum()), abs=1e-5)


ALL_TASKS = sorted(set(TASKS) - {"pretraining"})
SHAPES: dict[str, tuple[dict[str, Any], ...]] = {
    "multiple-choice": ({"context": LONG, "choices": ["a", "b"]}, {"context": "a", "choices": ["a", "b"]}),
    "question-answering": ({"question": "a", "context": LONG}, {"question": "a", "context": "a"}),
}
"""What `predict` takes where it is no plain text: one that is too long and one that is not."""


@pytest.mark.parametrize("name", ALL_TASKS)
def test_every_task_has_a_policy_that_is_obeyed(tokenizer: Tokenizer, name: str) -> None:
    """Cut texts are one sequence that is marked as cut; windows are several that lose nothing."""
    policies = next(f for f in dataclasses.fields(task_kind(name).Options) if f.name == "long_text").metadata["choices"]
    assert {"truncate", "window"} <= set(policies)
    assert ("head-tail" in policies) == (name != "question-answering")
    for policy in policies:
        task = new_task(name, {"long_text": policy})
        long, short = (task.example(item) for item in SHAPES.get(name, (LONG, "a")))
        features = task.featurize([short, long], tokenizer, 12, purpose="predict")
        sequences = int((features.example_index == 1).sum()), int((features.example_index == 0).sum())
        each = 2 if name == "multiple-choice" else 1
        assert sequences[1] == each
        assert (sequences[0] > each) == (policy == "window")
        assert features.cut[features.example_index == 1].all() == (policy != "window")
        assert not features.cut[features.example_index == 0].any()


def test_the_middle_of_a_cut_context_has_no_answer(tokenizer: Tokenizer) -> None:
    """An answer beyond the cut is no answer to learn, and cannot be given."""
    task = new_task("question-answering", {"long_text": "truncate"})
    with pytest.raises(InputError, match="--long-text head-tail: must be one of window, truncate"):
        parse("bertune train", "", [task_kind("question-answering").Options], ["--long-text", "head-tail"])
    question = task.example({"question": "q", "context": LONG})
    seen, unseen = (
        dataclasses.replace(question, answers=(Answer(LONG[at], at),), is_impossible=False) for at in (4, len(LONG) - 1)
    )
    features = task.featurize([seen, unseen], tokenizer, 12, purpose="train")
    assert features.input_ids.lengths.tolist() == [12, 12]
    assert np.asarray(features.targets["start"]).tolist() == [5, 0]
    assert np.concatenate([features.extras["max_context"][i] for i in (0, 1)]).all()


@each_check
@pytest.mark.parametrize(
    ("task", "data"),
    [
        ("text-classification", "intents/train.csv"),
        ("regression", "similarity/train.csv"),
        ("multi-label-classification", "topics/train.csv"),
        ("multiple-choice", "choices/train.jsonl"),
        ("embedding", "similarity/train.csv"),
        ("token-classification", "entities/train.conll"),
    ],
)
def test_tasks_conform_with_windows(task: str, data: str, check: Any, tmp_path: Path) -> None:
    check(Case(task, SAMPLES / data, {"long_text": "window"}), tmp_path)
