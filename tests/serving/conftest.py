"""A tiny trained model of every task, and services on them."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import bertune
from bertune.serving import app
from bertune.serving.options import ServeLimits
from tests import runs

ITEMS: Mapping[str, list[Any]] = {
    "text-classification": [
        "the film is good",
        "a " * 40,
        ["film is bad", "the film"],
        {"text": "fine"},
        "",
        "好电影 🎬",
    ],
    "mrpc": [["the film is good", "the film is bad"], ["a", "b " * 60]],
    "regression": [["the film", "a film"], ["good", "bad"], ["x", "y " * 50]],
    "multi-label-classification": ["the film is good", "is the bad film", "z " * 50],
    "multiple-choice": [
        {"context": "the film", "question": "is", "choices": ["good", "bad", "the " * 40]},
        {"context": "a", "choices": ["b", "c"]},
    ],
    "token-classification": ["Anna lives in Rome .", ["Anna", "is", "fine"], "the film " * 30],
    "question-answering": [
        {"question": "is the film", "context": "film is bad, the film"},
        {"question": "what", "context": "good film " * 40},
    ],
    "embedding": ["the film", "a " * 50, ["good", "bad"]],
    "pretraining": ["the film is [MASK]", "[MASK] film is [MASK]", "the " * 30 + "[MASK]"],
}
"""Items of every task, of unlike lengths: longer than the model reads among them."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of a task, trained when it is first asked for."""
    root = tmp_path_factory.mktemp("served")
    made: dict[str, Path] = {}

    def folder(task: str) -> Path:
        if task not in made:
            runs.start(root / task / "run", runs.prepare(root / task, task))
            made[task] = root / task / "run"
        return made[task]

    return folder


@pytest.fixture
def client(folders: Callable[[str], Path]) -> Iterator[TestClient]:
    """A service of a classifier and a model of embeddings."""
    models = {"first": folders("text-classification"), "vectors": folders("embedding")}
    with TestClient(app(models, limits=ServeLimits(max_body_bytes=20_000))) as client:
        yield client


def plain(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Predictions without what the service adds."""
    return [{k: v for k, v in one.items() if k not in ("truncated", "tokens")} for one in predictions]


def predicted(folder: Path, items: list[Any]) -> list[dict[str, Any]]:
    """What `predict` says of all items together."""
    return bertune.load(folder).predict(items)
