"""Whether text is lower-cased: by what a vocabulary can spell, then by names."""

import string

import pytest

from bertune.tokenization.casing import casing_from_names, casing_of

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"]
SMALL = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]


@pytest.mark.parametrize(
    ("name", "lower"),
    [
        ("uncased_L-12_H-768_A-12", True),
        ("uncased_L-24_H-1024_A-16", True),
        ("wwm_uncased_L-24_H-1024_A-16", True),
        ("chinese_L-12_H-768_A-12", True),
        ("multilingual_L-12_H-768_A-12", True),
        ("multilingual_cased", False),
        ("multilingual_uncased", True),
        ("chinese-bert-cased", False),
        ("cased_L-12_H-768_A-12", False),
        ("cased_L-24_H-1024_A-16", False),
        ("wwm_cased_L-24_H-1024_A-16", False),
        ("multi_cased_L-12_H-768_A-12", False),
        ("bert-base-Cased", False),
        ("showcased", None),
        ("run-3", None),
    ],
)
def test_by_name(name: str, lower: bool | None) -> None:
    assert casing_from_names([name]).lower is lower


@pytest.mark.parametrize(
    ("pieces", "lower"),
    [
        ([*MARKS, *SMALL, "<S>", "<T>", "的", "##一"], True),  # Google's Chinese vocabulary
        (["\ufeff[PAD]", *MARKS[1:], *SMALL], True),  # a byte order mark
        ([*MARKS, *SMALL, "<s>", "</S>", "<EOD>"], True),
        ([*MARKS, *SMALL, "K"], True),  # one capital by accident
        ([*MARKS, *SMALL, *string.ascii_uppercase], False),
        ([*MARKS, *"абвгд", *"АБВГД"], False),
        ([*MARKS, *"абвгд", "##д"], True),
        ([*MARKS, "the", "##The"], False),
        ([*MARKS, "the", "##ing"], True),
        ([*MARKS, "a", "##X"], False),
        ([*MARKS, "的", "一", "1"], None),  # no letter that has a case
    ],
)
def test_by_vocabulary(pieces: list[str], lower: bool | None) -> None:
    assert casing_of(pieces).lower is lower


def test_the_vocabulary_goes_before_the_name() -> None:
    cased, small = [*MARKS, *string.ascii_letters], [*MARKS, *SMALL]
    assert casing_of(cased, ["chinese_L-12"]).lower is False
    assert casing_of(small, ["my_cased_run"]).lower is True
    assert "A, B, C, …" in casing_of(cased).reason
    assert casing_of([*MARKS, "的"], ["multi_cased_L-12"]) == casing_from_names(["multi_cased_L-12"])
    assert "multi_cased_L-12" in casing_of([*MARKS, "的"], ["multi_cased_L-12"]).reason
