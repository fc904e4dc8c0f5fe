"""How far two computations agree, and what 8-bit products are checked on."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bertune
from bertune.encoder import int8
from bertune.features import Features
from bertune.inference import evaluation
from bertune.model import use
from bertune.model.agreement import Agreement
from bertune.network import Network
from tests import runs


def test_counts_sequences_and_shares_of_tokens() -> None:
    found = Agreement()
    found.add([np.array([1.0, 0.0], np.float32)], [np.array([0.9, 0.5], np.float32)])
    tokens = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    found.add([tokens], [tokens[:1].repeat(2, 0)])
    assert (found.sequences, found.agreeing, found.disagreeing, found.largest) == (2, 1.5, 0.5, 1.0)
    assert str(found) == "75.0% of the first 2 sequences' answers agree, logits within 1.000"


@pytest.fixture
def model(tmp_path: Path) -> use.Model:
    if not int8.supported():
        pytest.skip("this processor has no 8-bit products")
    runs.start(tmp_path / "run", runs.prepare(tmp_path, "text-classification"))
    return bertune.load(tmp_path / "run", device="cpu", precision="int8")


TEXTS = [f"the film is {word} {i}" for i in range(20) for word in ("good", "bad")]


def test_a_service_checks_more_than_its_first_item(model: use.Model, caplog: pytest.LogCaptureFixture) -> None:
    model.keeps_checking = True
    with caplog.at_level(logging.INFO):
        model.predict(TEXTS[:1])
        assert model.checked.sequences == 1
        model.predict(TEXTS)
        assert not caplog.messages
        assert model.checked.sequences == 41
        model.predict(TEXTS)
    assert model.checked.sequences == use.CHECKED
    assert model.reference is None
    assert f"of the first {use.CHECKED} sequences' answers agree" in caplog.text


def test_a_service_goes_back_once_too_many_disagree(
    model: use.Model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.keeps_checking = True
    full = model.reference

    def wrong(network: Network, features: Features, **options: Any) -> evaluation.Inference:
        found = evaluation.infer(network, features, **options)
        return found if network is full else replace(found, logits=[-row for row in found.logits])

    monkeypatch.setattr(use, "infer", wrong)
    model.predict(TEXTS[:3])  # 3 of 64 may disagree
    assert model.network is not full
    model.predict(TEXTS[3:4])
    assert model.network is full
    assert "going back to full products" in caplog.text


def test_one_call_decides_elsewhere(model: use.Model, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model.predict(TEXTS[:2])
    assert model.reference is None
    assert "of the first 2 sequences' answers agree" in caplog.text
