"""Lengths in tokens, samples of them, and what a limit cuts."""

from pathlib import Path

import numpy as np
import pytest

from bertune.checking import lengths as module
from bertune.checking.lengths import Lengths, LengthSample, suggested_batch_size
from bertune.conformance import tiny_encoder
from bertune.tasks.registry import new_task
from bertune.tasks.text_classification import TextExample

TASK = new_task("text-classification")


def of_words(counts: list[int]) -> list[TextExample]:
    """Texts of that many tokens, special ones included."""
    return [TextExample(" ".join("a" * (count - 2)), place=i + 2) for i, count in enumerate(counts)]


def test_what_a_limit_cuts(tmp_path: Path) -> None:
    sample = LengthSample(TASK, tiny_encoder(tmp_path)[1], 10)
    sample.add(of_words([4, 12, 10]))
    sample.add(of_words([30, 4]))
    found = sample.lengths()
    assert found.values.tolist() == [4, 4, 10, 12, 30]
    assert found.complete
    assert found.cuts
    assert found.over == 2 / 5
    assert found.lost == pytest.approx(22 / 60)
    assert found.longest == ((30, 2), (12, 3))
    assert found.histogram() == [("1 to 16", 4), ("17 to 32", 1)]
    assert found.suggested(512) == 32
    assert found.suggested(20) == 20


def test_windows_cut_nothing(tmp_path: Path) -> None:
    task = new_task("text-classification", {"long_text": "window"})
    sample = LengthSample(task, tiny_encoder(tmp_path)[1], 10)
    sample.add(of_words([4, 30]))
    found = sample.lengths()
    assert (found.cuts, found.lost, found.over) == (False, 0.0, 0.5)


def test_a_sample_is_bounded_and_fair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE", 200)
    tokenizer = tiny_encoder(tmp_path)[1]

    def taken() -> Lengths:
        sample = LengthSample(TASK, tokenizer, 10)
        for _ in range(40):
            sample.add(of_words([4, 4, 4, 20] * 10))
        return sample.lengths()

    found = taken()
    assert not found.complete
    assert 50 < len(found.values) <= 200
    assert 0.15 < found.over < 0.35
    np.testing.assert_array_equal(found.values, taken().values)


def test_unknown_tokens_are_counted_and_named(tmp_path: Path) -> None:
    sample = LengthSample(TASK, tiny_encoder(tmp_path)[1], 10)
    sample.add([TextExample("a b", place=2), TextExample("好 a", place=3)])
    found = sample.lengths()
    assert (found.unknown, found.unknown_rows, found.unknown_places) == (1 / 8, 1, (3,))


@pytest.mark.parametrize(
    ("rows", "length", "size"), [(100_000, 40.0, 32), (300, 40.0, 8), (500, 40.0, 16), (100_000, 2000.0, 8)]
)
def test_suggested_batch_size(rows: int, length: float, size: int) -> None:
    assert suggested_batch_size(32, rows, length)[0] == size
