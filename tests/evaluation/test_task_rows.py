"""Row metrics: the same figures as the task's own metrics, for every weighting of the rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertune.conformance import LENGTH, tiny_encoder
from bertune.data.subsets import of_examples
from bertune.inference.evaluation import infer
from bertune.network import Network
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task
from tests.conformance import SAMPLES
from tests.tiny import write_rows

CONLL = (
    "The O\nkitten B-ANIMAL\nsleeps O\n\nAda B-PERSON\nLovelace I-PERSON\nsaw O\na O\ndog B-ANIMAL\n\nNo O\none O\n\n"
)
TASKS = [
    ("text-classification", "intents/train.csv"),
    ("multiple-choice", "choices/train.jsonl"),
    ("question-answering", "handbook/train.json"),
    ("regression", "similarity/train.csv"),
    ("multi-label-classification", "topics/train.csv"),
    ("token-classification", ""),
    ("two-classes", ""),
]


def answered(name: str, file: str, folder: Path) -> tuple[Task[Any], list[Any], Any, list[Any], list[Any]]:
    """A task, examples, features, and a random encoder's logits and predictions."""
    data = SAMPLES / file
    if name == "token-classification":
        data = folder / "train.conll"
        data.write_text(CONLL * 5)
    elif name == "two-classes":
        name, data = (
            "text-classification",
            write_rows(folder / "two.csv", [{"text": "abcdefgh"[i % 8 :], "label": i % 3 % 2} for i in range(40)]),
        )
    task = new_task(name)
    encoder, tokenizer = tiny_encoder(folder, seed=5)
    examples = list(task.read(data, labelled=True))[:40]
    task = task.fit(examples, path=data, settings={})
    features = task.featurize(examples, tokenizer, LENGTH, purpose="evaluate")
    network = Network(encoder, task.new_head(encoder.config))
    for parameter in network.head.parameters():
        parameter.data *= 50
    logits = infer(network, features).logits
    task = task.tuned(logits, features, examples)
    return task, examples, features, logits, task.decode(logits, features, examples)


@pytest.mark.parametrize(("name", "file"), TASKS)
def test_metrics_of_the_whole_are_those_of_its_rows(name: str, file: str, tmp_path: Path) -> None:
    task, examples, features, logits, predictions = answered(name, file, tmp_path)
    outcomes = task.row_metrics(examples, predictions)
    assert outcomes is not None
    once = outcomes.metrics()
    expected = task.metrics(logits, features, examples)
    left_out = {"accuracy"} if name == "token-classification" else {key for key in expected if "best_" in key}
    left_out |= {key for key in expected if key.endswith("total")}
    assert once.keys() == expected.keys() - left_out
    assert once == pytest.approx({key: expected[key] for key in once}, abs=1e-5)
    if name == "question-answering":  # its metrics go by the questions' ids, of which none may come twice
        return
    drawn = np.random.default_rng(3).integers(0, len(examples), len(examples))
    part, rows = of_examples(features, drawn)
    expected = task.metrics([logits[row] for row in rows], part, [examples[i] for i in drawn])
    weights = np.bincount(drawn, minlength=len(examples))[None].astype(float)
    found = {key: float(outcomes.metric(key, weights)[0]) for key in once}
    same = found.keys() & expected.keys()
    assert len(same) >= 1
    assert {key: found[key] for key in same} == pytest.approx({key: expected[key] for key in same}, abs=1e-5)


def test_some_examples_in_another_order(tmp_path: Path) -> None:
    task, _, features, logits, predictions = answered("question-answering", "handbook/train.json", tmp_path)
    chosen = np.array([3, 0, 3])
    part, rows = of_examples(features, chosen)
    examples = list(task.read(SAMPLES / "handbook/train.json", labelled=True))
    again = task.decode([logits[row] for row in rows], part, [examples[i] for i in chosen])
    assert again == [predictions[i] for i in chosen]
