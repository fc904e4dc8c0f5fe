"""Labels that look alike are named, whatever they differ in."""

import pytest

from bertune.checking.similar_labels import labels_of_missing_values, shown, similar_labels


@pytest.mark.parametrize(
    ("names", "difference"),
    [
        (["1", "1.0"], "how a number is written"),
        (["07", "7", "7e0"], "how a number is written"),
        (["good", "go\u200bod"], "invisible characters"),
        (["caf\u00e9", "cafe\u0301"], "Unicode's forms"),
        (["ＡＢ", "AB"], "Unicode's forms"),
        (["Good", "good ", "GOOD"], "letter case or spaces"),
        (["a b", "a  b"], "letter case or spaces"),
    ],
)
def test_labels_alike(names: list[str], difference: str) -> None:
    ((found, told),) = similar_labels([*names, "other", "2"])
    assert found == names
    assert difference in told


def test_labels_that_differ() -> None:
    assert similar_labels(["good", "bad", "1", "2", "nan", "-1", "1a", "+", "-", "C", "C++", "C#"]) == []


def test_their_difference_is_visible() -> None:
    assert shown(["good", "go\u200bod"]) == r"'good', 'go\u200bod'"
    assert shown(["1", "1.0"]) == "'1', '1.0'"


def test_labels_of_missing_values() -> None:
    assert labels_of_missing_values(["nan", "good", "N/A", "Nancy", "<NA>"]) == ["nan", "N/A", "<NA>"]
