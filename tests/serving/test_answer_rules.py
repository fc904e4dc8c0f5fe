"""`serve --threshold`, `--automate-at` and `--interval`: answers are those of `predict` with the same options."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import bertune
from bertune.cli.arguments import parse
from bertune.errors import InputError
from bertune.serving import app
from bertune.serving.answer_rules import AnswerRules
from bertune.serving.options import ServeOptions, environment_arguments
from tests import tiny
from tests.serving.conftest import ITEMS, plain

Folders = Callable[[str], Path]


def changed(folder: Path, **options: Any) -> bertune.Model:
    """The model as `predict` makes it with options of its task."""
    model = bertune.load(folder)
    task = model.task.with_options(dataclasses.replace(model.task.options, **options))
    return dataclasses.replace(model, task=task)


def asked(service: Any, name: str, items: Sequence[Any]) -> list[dict[str, Any]]:
    """What the service answers."""
    with TestClient(service) as client:
        response = client.post(f"/v1/models/{name}/predict", json={"inputs": list(items)})
    assert response.status_code == 200, response.text
    return plain(response.json()["predictions"])


@pytest.mark.parametrize(
    ("task", "threshold"),
    [
        ("text-classification", ["0.999"]),
        ("text-classification", ["good=0", "bad=1"]),
        ("multi-label-classification", ["0.01"]),
    ],
)
def test_answers_are_those_of_predict(folders: Folders, task: str, threshold: list[str]) -> None:
    found = asked(app({"m": folders(task)}, rules=AnswerRules(threshold)), "m", ITEMS[task])
    assert found == changed(folders(task), threshold=threshold).predict(ITEMS[task])
    assert found != bertune.load(folders(task)).predict(ITEMS[task])


def test_an_answer_below_the_score_is_left_to_a_person(folders: Folders) -> None:
    service = app({"m": folders("text-classification")}, rules=AnswerRules(["1"]))
    with TestClient(service) as client:
        answer = client.post("/v1/models/m/predict", json={"inputs": ["film"]}).json()["predictions"][0]
        assert answer["label"] is None
        assert answer["review"] is True
        assert client.get("/v1/models/m").json()["review"] == {"threshold": ["1"]}
        assert client.post("/", json={"inputs": "film"}).status_code == 200
        assert client.post("/predict", json={"inputs": "film"}).status_code == 200
        tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["film"]}
        outputs = client.post("/v2/models/m/infer", json={"inputs": [tensor]}).json()["outputs"]
        assert {one["name"]: one["data"] for one in outputs}["label"] == [""]


def test_parts_for_one_model_and_for_all(folders: Folders) -> None:
    models = {name: folders("text-classification") for name in ("one", "two")} | {"sent": folders("embedding")}
    service = app(models, rules=AnswerRules(["bad=0.8", "two:good=0.9", "two:bad=0.7"]))
    described = {one["name"]: one["review"] for one in TestClient(service).get("/v1/models").json()["models"]}
    assert described == {
        "one": {"threshold": ["bad=0.8"]}, "two": {"threshold": ["good=0.9", "bad=0.7"]}, "sent": {},
    }  # fmt: skip
    service.state.service.models.close(5)


def test_a_share_of_right_answers(folders: Folders) -> None:
    model = bertune.load(folders("text-classification"))
    task: Any = model.task
    model = dataclasses.replace(model, task=dataclasses.replace(task, coverage=((0.9, 1.0), (0.5, 0.7))))
    found = asked(app({"m": model}, rules=AnswerRules(automate_at=["m:0.95"])), "m", ["film", "good"])
    assert [one["review"] for one in found] == [one["score"] < 0.9 for one in found]


def test_numbers_with_an_interval(folders: Folders) -> None:
    models = {"n": folders("regression"), "other": folders("regression"), "m": folders("text-classification")}
    items = ITEMS["regression"]
    with TestClient(app(models, rules=AnswerRules(interval=["0.5", "other:0.8"]))) as client:
        for name, share in (("n", 0.5), ("other", 0.8)):
            found = plain(client.post(f"/v1/models/{name}/predict", json={"inputs": items}).json()["predictions"])
            assert found == changed(folders("regression"), interval=share).predict(items)
            assert all(one["low"] < one["score"] < one["high"] for one in found)
        described = {one["name"]: one["review"] for one in client.get("/v1/models").json()["models"]}
        assert described == {"n": {"interval": 0.5}, "other": {"interval": 0.8}, "m": {}}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--threshold", "card=0.9"],
            "--threshold card=0.9: concerns none of the models m, e; known labels: bad, good",
        ),
        (["--threshold", "m:card=0.9"], "--threshold card=0.9: no such label; known: bad, good"),
        (["--threshold", "e:0.9"], "--threshold e:0.9: the model's task, embedding, has no such option"),
        (["--threshold", "1.5"], "--threshold 1.5: expected one number from 0 to 1"),
        (["--automate-at", "0.9"], "keeps no coverage of validation rows"),
        (["--automate-at", "m:2"], "--automate-at m:2: must be a number from 0 to 1"),
        (["--automate-at", "0.9", "0.8"], "one number a model"),
        (["--interval", "0.9"], "--interval 0.9: concerns none of the models m, e"),
        (["--interval", "m:0.9"], "--interval m:0.9: the model's task, text-classification, has no such option"),
        (["--interval", "much"], "--interval much: concerns none of the models m, e"),
    ],
)
def test_rules_that_cannot_be(
    folders: Folders, capsys: pytest.CaptureFixture[str], options: list[str], told: str
) -> None:
    models = [f"m={folders('text-classification')}", f"e={folders('embedding')}"]
    answer = tiny.bertune(capsys, "serve", "--model", *models, *options)
    assert answer.status == 2
    assert told in answer.err


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ("much", "--interval much: must be a number from 0 to 1"),
        ("1", "--interval 1.0: must be between 0 and 1"),
        ("0.9999", "enough for"),
    ],
)
def test_intervals_that_cannot_be(folders: Folders, interval: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        app({"n": folders("regression")}, rules=AnswerRules(interval=[interval]))


def test_rules_from_the_environment(caplog: pytest.LogCaptureFixture) -> None:
    given = {"THRESHOLD": "0.8 m:good=0.9", "AUTOMATE_AT": "0.95", "INTERVAL": "n:0.9 0.8"}
    found = environment_arguments({f"BERTUNE_SERVE_{name}": value for name, value in given.items()})
    options = ServeOptions(**parse("serve", "", [ServeOptions], [*found, "--model", "m"]))
    assert options.threshold == ["0.8", "m:good=0.9"]
    assert options.automate_at == ["0.95"]
    assert options.interval == ["n:0.9", "0.8"]
    assert "is no option" not in caplog.text


def test_rules_hold_after_a_reload(folders: Folders) -> None:
    service = app({"m": folders("text-classification")}, api_keys=["k"], rules=AnswerRules(["m:0.75"]))
    with TestClient(service, headers={"x-api-key": "k"}) as client:
        assert client.post("/v1/models/m/reload").json()["review"] == {"threshold": ["0.75"]}


def test_a_model_that_cannot_take_a_rule_is_named(folders: Folders) -> None:
    with pytest.raises(InputError, match="concerns none of the models e"):
        app({"e": folders("embedding")}, rules=AnswerRules(["0.5"]))
