"""Quick methods that also judge labels."""

from pathlib import Path

import numpy as np
import pytest

from bertune.report import opinions as module
from bertune.report.opinions import opinions
from bertune.tasks.text_classification import TextExample
from tests import tiny

LABELS = ["bad", "good"]


def examples(rows: int, seed: int = 0) -> list[TextExample]:
    return [TextExample(str(one["text"]), None, str(one["label"])) for one in tiny.opinions(rows, seed=seed)]


def accuracy(found: np.ndarray, rows: list[TextExample]) -> float:
    return float(np.mean([LABELS[row.argmax()] == one.label for row, one in zip(found, rows, strict=True)]))


def test_words_and_vectors_judge_rows_by_the_training_data(tmp_path: Path) -> None:
    rows = examples(60, seed=1)
    found = opinions(rows, LABELS, {"encoder": str(tiny.write_encoder(tmp_path / "encoder"))}, examples(120))
    assert [one.shape for one in found] == [(60, 2), (60, 2)]
    for one in found:
        assert one.sum(1) == pytest.approx(np.ones(60))
    assert accuracy(found[0], rows) > 0.9


def test_rows_without_training_data_judge_one_another() -> None:
    rows = examples(120)
    (found,) = opinions(rows, LABELS, {"encoder": "/nosuch"}, None)
    assert accuracy(found, rows) > 0.9


def test_rows_are_not_judged_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The training data of a run with folds are the judged rows."""
    rows = examples(120)
    flipped = [TextExample(f"unheard {i}", None, one.label) for i, one in enumerate(rows)]
    seen: list[int] = []

    def parted(some: list[TextExample], parts: int) -> np.ndarray:
        seen.append(parts)
        return np.arange(len(some)) % parts

    monkeypatch.setattr(module, "fold_numbers", parted)
    opinions(flipped, LABELS, {}, flipped)
    assert set(seen) == {module.PARTS}


def test_too_few_rows_too_many_labels_and_other_tasks_have_none() -> None:
    assert opinions(examples(20), LABELS, {}, None) == []
    assert opinions(examples(80), [str(i) for i in range(500)], {}, None) == []
    assert opinions([object()] * 80, LABELS, {}, None) == []
    assert opinions([TextExample("...", None, "bad")] * 80, LABELS, {}, None) == []


def test_pairs_and_labels_that_training_lacks(tmp_path: Path) -> None:
    pairs = [TextExample(one.text, f"{one.text} indeed", one.label) for one in examples(80)]
    encoder = str(tiny.write_encoder(tmp_path / "encoder"))
    found = opinions(pairs, [*LABELS, "other"], {"encoder": encoder}, None)
    assert [one.shape for one in found] == [(80, 3), (80, 3)]
    assert all((one[:, 2] == 0).all() for one in found)
