"""Explanations over HTTP and on the page: those of `bertune.explain`, refusals, hostile texts inert."""

from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import bertune
from tests.serving.browser import CHROMIUM, browser
from tests.serving.test_clients import served

Folders = Callable[[str], Path]


def test_the_words_are_those_of_explain(client: TestClient, folders: Folders) -> None:
    answer = client.post("/v1/models/first/explain", json={"input": "the film is good"})
    assert answer.status_code == 200
    expected = bertune.explain(bertune.load(folders("text-classification")), "the film is good")
    found = answer.json()
    assert found["label"] == expected.label
    assert [(word["word"], word["field"]) for word in found["words"]] == [
        (word.word, word.field) for word in expected.words
    ]
    for word, own in zip(found["words"], expected.words, strict=True):
        assert word["weight"] == pytest.approx(own.weight, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "body", "status", "told"),
    [
        ("first", {"input": "good", "label": "excellent"}, 422, "'excellent' is none of the model's"),
        ("first", {"input": "good", "label": 3}, 422, "a label's name is expected"),
        ("first", {"input": 7}, 422, "7"),
        ("first", {"inputs": ["good"]}, 422, "input"),
        ("vectors", {"input": "good"}, 422, "models for embedding cannot be explained"),
        ("nosuch", {"input": "good"}, 404, "nosuch"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    client: TestClient, name: str, body: dict[str, object], status: int, told: str
) -> None:
    answer = client.post(f"/v1/models/{name}/explain", json=body)
    assert answer.status_code == status
    assert told in answer.json()["error"]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")
def test_on_the_page(folders: Folders, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=window.hacked=1> film is good"
    with served({"one": folders("text-classification")}) as url, browser(tmp_path) as page:
        page.open(url)
        page.until("document.querySelector('#field-text')")
        page.run(f"$('field-text').value = {hostile!r}")
        page.run("$('form').requestSubmit()")
        page.until("document.querySelector('#why')")
        page.run("$('why').click()")
        page.until("document.querySelectorAll('#result .text span').length > 4")
        assert page.run("document.querySelector('#result .text').textContent") == hostile
        assert page.run("typeof window.hacked") == "undefined"
        assert page.errors == []
