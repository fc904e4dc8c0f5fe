"""Quick methods that also judge labels."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bertune.report import opinions as module
from bertune.report.opinions import Judged, judged_together
from bertune.tasks.text_classification import TextExample
from tests import tiny

LABELS = ["bad", "good"]


def examples(rows: int, seed: int = 0) -> list[TextExample]:
    return [TextExample(str(one["text"]), None, str(one["label"])) for one in tiny.opinions(rows, seed=seed)]


def opinions(
    rows: list[Any], labels: list[str], record: dict[str, str], train: list[TextExample] | None
) -> list[np.ndarray]:
    """Of all rows."""
    given = np.array([labels.index(getattr(one, "label", labels[0])) for one in rows])
    return module.opinions(Judged(rows, given, labels), np.arange(len(rows)), record, train)


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
    assert opinions(examples(80), [*LABELS, *map(str, range(500))], {}, None) == []
    assert opinions([object()] * 80, LABELS, {}, None) == []
    assert opinions([TextExample("...", None, "bad")] * 80, LABELS, {}, None) == []


def test_pairs_and_labels_that_training_lacks(tmp_path: Path) -> None:
    pairs = [TextExample(one.text, f"{one.text} indeed", one.label) for one in examples(80)]
    encoder = str(tiny.write_encoder(tmp_path / "encoder"))
    found = opinions(pairs, [*LABELS, "other"], {"encoder": encoder}, None)
    assert [one.shape for one in found] == [(80, 3), (80, 3)]
    assert all((one[:, 2] == 0).all() for one in found)


def test_of_very_many_rows_the_doubtful_ones_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_JUDGED", 10)
    rows = examples(120)
    given = np.array([LABELS.index(str(one.label)) for one in rows])
    model = np.where(np.arange(120)[:, None] < 110, [[0.3, 0.7]], [[0.5, 0.5]])
    model[np.arange(110), given[:110]] = 0.9
    found = judged_together(Judged(rows, given, LABELS), model, {}, None)
    changed = np.flatnonzero((found != model).any(1))
    assert changed.tolist() == list(range(110, 120))
    assert (found[changed].argmax(1) == given[changed]).mean() >= 0.9
    few = Judged(rows[:20], given[:20], LABELS)
    assert judged_together(few, model[:20], {}, None) is not None
    assert (judged_together(few, model[:20], {}, None) == model[:20]).all()
