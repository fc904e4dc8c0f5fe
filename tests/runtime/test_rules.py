"""`--threshold`, `--automate-at` and `--interval`: one rule, one answer, from every program that answers.

`predict`, the service, the runtime and its service, on a trained model and on its export in float32 and 8 bits.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import bertune_runtime
import numpy as np
import pytest
from bertune_runtime.__main__ import main as runtime_main
from starlette.testclient import TestClient

import bertune
from bertune.export.folder import export
from bertune.export.options import ExportOptions
from bertune.serving import app
from bertune.serving.answer_rules import AnswerRules
from bertune.serving.served import Loading
from tests import tiny
from tests.serving.conftest import plain

Answers = list[dict[str, Any]]
Rules = Mapping[str, Sequence[str]]
WRONG = 12
"""Validation rows of the classifier with a wrong label, of 80, so that its scores spread."""
SHARE = {"automate_at": 0.9, "interval": 0.8}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier in `labels` and a regression in `numbers`, trained, and exported to `…-exported`; texts."""
    root = tmp_path_factory.mktemp("rules")
    tiny.write_encoder(root / "encoder")
    rows = [dict(row) for row in tiny.opinions(80, seed=1)]
    for row in rows[:WRONG]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    files = {
        "labels": (tiny.opinions(96), rows),
        "numbers": [
            [
                {**row, "label": 3.0 * (row["label"] == "good") + i % 3}
                for i, row in enumerate(tiny.opinions(96, seed=s))
            ]
            for s in (2, 3)
        ],
    }
    for name, (train, dev) in files.items():
        bertune.train(
            task="text-classification" if name == "labels" else "regression", encoder=root / "encoder",
            train=tiny.write_rows(root / f"{name}-train.jsonl", train),
            validation=tiny.write_rows(root / f"{name}-dev.jsonl", dev), output=root / name, max_seq_length=32,
            batch_size=8, learning_rate=1e-2, epochs=6, precision="fp32", device="cpu", report=False,
        )  # fmt: skip
        export_of(root / name, "fp32", "int8")
    tiny.write_rows(root / "texts.jsonl", [{"text": text} for text in texts()])
    return root


def export_of(model: Path, *precisions: str) -> None:
    folder = model.with_name(f"{model.name}-exported")
    export(ExportOptions(model=str(model), output=str(folder), precision=list(precisions)))


def texts() -> list[str]:
    """Texts that the classifier is more and less sure of."""
    words = ("good", "bad", "fine", "awful")
    return [f"the {one} film is {two}" for one in words for two in words]


def options_of(rules: Rules) -> list[str]:
    """Rules as options of a command."""
    return [part for name, parts in rules.items() for part in (f"--{name.replace('_', '-')}", *parts)]


def lines(file: Path) -> Answers:
    return [json.loads(line) for line in file.read_text().splitlines()]


def by_predict(model: Path, rules: Rules, output: Path, capsys: pytest.CaptureFixture[str]) -> Answers:
    texts_file = model.parent / "texts.jsonl"
    tiny.done(
        capsys, "predict", "--model", model, "--input", texts_file, "--output", output, "--precision", "fp32",
        *options_of(rules),
    )  # fmt: skip
    return lines(output)


def by_service(model: Path, rules: Rules, loading: Callable[[Path], Any]) -> Answers:
    service = app({"m": model}, rules=AnswerRules(**rules), loading=loading)
    with TestClient(service) as client:
        response = client.post("/v1/models/m/predict", json={"inputs": texts()})
    assert response.status_code == 200, response.text
    return plain(response.json()["predictions"])


def by_runtime(model: Path, rules: Rules, output: Path, precision: str) -> Answers:
    command = ["predict", "--model", model, "--input", model.parent / "texts.jsonl", "--output", output]
    assert runtime_main([*map(str, command), "--precision", precision, *options_of(rules)]) == 0
    return lines(output)


def assert_alike(found: Answers, expected: Answers, tolerance: float) -> None:
    """The same keys and labels, the same left to a person, and numbers that differ by no more than this."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        assert {name: one.get(name) for name in ("label", "review")} == {
            name: other.get(name) for name in ("label", "review")
        }
        for name in {"score", "low", "high"} & other.keys():
            assert one[name] == pytest.approx(other[name], abs=tolerance)


def widest_gap(scores: Sequence[float]) -> float:
    """A score in the middle of the widest gap, so that rounding decides no answer."""
    ordered = np.sort(scores)
    at = int(np.argmax(np.diff(ordered)))
    return float((ordered[at] + ordered[at + 1]) / 2)


def ruled(model: Path, rule: str, cut: float, answers: Answers) -> Answers:
    """A rule applied to answers without rules, as the documentation says it."""
    saved = json.loads((model / "bertune.json").read_text())["task"]
    if rule == "interval":
        half = min(width for share, width in saved["errors"] if share >= SHARE[rule])
        return [{**one, "low": one["score"] - half, "high": one["score"] + half} for one in answers]
    if rule == "automate-at":
        cut = min(score for score, right in saved["coverage"] if right >= SHARE["automate_at"])
    asked = [one["score"] < cut and (rule != "threshold of a label" or one["label"] == "good") for one in answers]
    return [{**one, "label": None if below else one["label"], "review": below}
            for one, below in zip(answers, asked, strict=True)]  # fmt: skip


@pytest.mark.parametrize("rule", ["threshold", "threshold of a label", "automate-at", "interval"])
def test_one_rule_gives_one_answer_everywhere(
    rule: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = models / ("numbers" if rule == "interval" else "labels")
    plainly = by_predict(model, {}, tmp_path / "plain.jsonl", capsys)
    cut = round(widest_gap([one["score"] for one in plainly if one.get("label", "good") == "good"]), 4)
    rules: Rules = {
        "threshold": {"threshold": [str(cut)]},
        "threshold of a label": {"threshold": [f"good={cut}"]},
        "automate-at": {"automate_at": [str(SHARE["automate_at"])]},
        "interval": {"interval": [str(SHARE["interval"])]},
    }[rule]
    expected = ruled(model, rule, cut, plainly)
    if rule != "interval":
        assert 0 < sum(one["review"] for one in expected) < len(expected)
    assert_alike(by_predict(model, rules, tmp_path / "predict.jsonl", capsys), expected, 2e-6)
    assert_alike(by_service(model, rules, Loading("fp32")), expected, 2e-6)
    exported = models / f"{model.name}-exported"
    for precision in ("fp32", "int8"):
        load = partial(bertune_runtime.load, precision=precision)
        assert load(exported).precision == precision
        own = by_runtime(exported, {}, tmp_path / f"{precision}-plain.jsonl", precision)
        ruled_own = ruled(exported, rule, cut, own)
        assert_alike(by_runtime(exported, rules, tmp_path / f"{precision}.jsonl", precision), ruled_own, 2e-6)
        assert_alike(by_service(exported, rules, load), ruled_own, 2e-6)
        if precision == "fp32":  # 8 bits move the scores of so small a model
            assert_alike(ruled_own, expected, 1e-4)


def test_rules_that_training_saved_hold_everywhere(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = {"threshold": ["good=1", "bad=0"]}
    bertune.train(
        task="text-classification", encoder=models / "encoder", train=models / "labels-train.jsonl",
        validation=models / "labels-dev.jsonl", output=models / "saved", max_seq_length=32, batch_size=8,
        learning_rate=1e-2, epochs=6, precision="fp32", device="cpu", report=False, **rules,
    )  # fmt: skip
    export_of(models / "saved", "fp32")
    expected = by_predict(models / "saved", {}, tmp_path / "predict.jsonl", capsys)
    assert {one["label"] for one in expected} == {None, "bad"}
    assert_alike(by_service(models / "saved", {}, Loading("fp32")), expected, 1e-6)
    run = by_runtime(models / "saved-exported", {}, tmp_path / "fp32.jsonl", "fp32")
    assert_alike(run, expected, 1e-4)
    # What is said when it is asked replaces what training saved.
    cleared = {"threshold": ["0"]}
    for found in (
        by_predict(models / "saved", cleared, tmp_path / "cleared.jsonl", capsys),
        by_service(models / "saved", cleared, Loading("fp32")),
        by_runtime(models / "saved-exported", cleared, tmp_path / "fp32-cleared.jsonl", "fp32"),
    ):
        assert not any(one["review"] for one in found)
