"""Baselines: the commonest answer, and words by TF-IDF, judged as the model is."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bertune.evaluation.baselines import baselines
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task
from tests.conformance import SAMPLES


def learnt(name: str, train: str, dev: str) -> tuple[Task[Any], list[Any], list[Any]]:
    """A task and the examples of its sample files."""
    task = new_task(name)
    examples = list(task.read(SAMPLES / train, labelled=True))
    task = task.fit(examples, path=Path(train), settings={})
    return task, examples, list(task.read(SAMPLES / dev, labelled=True))


def test_labels() -> None:
    task, train, dev = learnt("text-classification", "intents/train.csv", "intents/dev.csv")
    found = baselines(task, train, dev)
    (commonest, _), *_ = Counter(example.label for example in train).most_common(1)
    share = sum(example.label == commonest for example in dev) / len(dev)
    assert found["majority"]["accuracy"] == pytest.approx(share)
    assert found["majority"]["matthews_correlation"] == 0
    assert found["tfidf_logistic_regression"]["accuracy"] > share + 0.3
    assert found["tfidf_logistic_regression"].keys() == {
        "accuracy",
        "f1",
        "precision",
        "recall",
        "matthews_correlation",
    }


def test_words_of_chinese_are_told_apart() -> None:
    task = new_task("text-classification")
    read = type(task.example(""))
    train = [read("这部电影很好看", None, "good"), read("这部电影很糟糕", None, "bad")] * 3
    task = task.fit(train, path=Path("x"), settings={})
    rows = [read("好看得很", None, "good"), read("糟糕透了", None, "bad")]
    assert baselines(task, train, rows)["tfidf_logistic_regression"]["accuracy"] == 1


def test_pairs_are_compared() -> None:
    task = new_task("text-classification")
    read = type(task.example(""))
    words = ["apple", "pear", "plum", "fig", "lime", "date"]
    pairs = [(a, b) for a in words for b in words if a == b or (words.index(a) + words.index(b)) % 5 == 0]
    train = [read(a, b, "same" if a == b else "other") for a, b in pairs] * 3
    task = task.fit(train, path=Path("x"), settings={})
    assert baselines(task, train, train)["tfidf_logistic_regression"]["accuracy"] == 1


def test_numbers() -> None:
    task, train, dev = learnt("regression", "similarity/train.csv", "similarity/dev.csv")
    found = baselines(task, train, dev)
    assert found.keys() == {"mean", "tfidf_ridge"}
    assert found["mean"]["pearson"] == 0
    assert found["mean"]["rmse"] < found["tfidf_ridge"]["rmse"]  # thirty pairs are too few to learn from
    assert baselines(task, train, train)["tfidf_ridge"]["pearson"] > 0.8


def test_several_labels() -> None:
    task, train, dev = learnt("multi-label-classification", "topics/train.csv", "topics/dev.csv")
    found = baselines(task, train, dev)
    assert found["tfidf_logistic_regression"]["f1"] > found["majority"]["f1"]


def test_entities_by_their_words() -> None:
    task, train, dev = learnt("token-classification", "entities/train.conll", "entities/dev.conll")
    (found,) = baselines(task, train, train).values()
    assert found["recall"] > 0.9
    unseen = baselines(task, train, dev)["known_words"]
    assert (unseen["precision"], unseen["recall"]) == pytest.approx((16 / 17, 16 / 45))
    assert (unseen["f1/PRODUCT"], unseen["f1/PERSON"]) == (1, 0)  # names of people do not recur


def test_choices() -> None:
    task, train, dev = learnt("multiple-choice", "choices/train.jsonl", "choices/dev.jsonl")
    assert baselines(task, train, dev)["majority"]["accuracy"] == 0.25  # the most frequent place is right in 5 of 20


def test_questions_without_answers() -> None:
    task, train, dev = learnt("question-answering", "handbook/train.json", "handbook/dev.json")
    impossible = sum(example.is_impossible for example in dev)
    assert (impossible, len(dev)) == (13, 40)
    found = baselines(task, train, dev)["majority"]
    assert found["exact_match"] == found["f1"] == 100 * 13 / 40
    assert (found["HasAns_f1"], found["NoAns_f1"]) == (0, 100)


def test_no_method_is_said(caplog: pytest.LogCaptureFixture) -> None:
    task, train, dev = learnt("embedding", "similarity/train.csv", "similarity/dev.csv")
    logging.getLogger("bertune").propagate = True
    with caplog.at_level("WARNING"):
        assert baselines(task, train, dev) == {}
    assert "no simple method" in caplog.text


def test_texts_without_words_are_said(caplog: pytest.LogCaptureFixture) -> None:
    task = new_task("text-classification")
    read = type(task.example(""))
    train = [read(" ", None, "good"), read("", None, "bad"), read("", None, "bad")]
    task = task.fit(train, path=Path("x"), settings={})
    logging.getLogger("bertune").propagate = True
    with caplog.at_level("WARNING"):
        assert list(baselines(task, train, train)) == ["majority"]
    assert "--baselines: tfidf_logistic_regression cannot learn from these rows (" in caplog.text
