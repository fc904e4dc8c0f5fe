"""Spans end where a reader sees a character end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertune.tasks.characters import readable_span
from bertune.tasks.shared.words import words_of


@pytest.mark.parametrize(
    ("text", "start", "end", "expected"),
    [
        ("यह गुरु है", 3, 6, "गुरु"),
        ("Zoe\u0308 ist da", 0, 3, "Zoe\u0308"),
        ("\ufeffParis", 0, 6, "Paris"),
        ("in\u200bRom\u200b!", 2, 7, "Rom"),
        ("die Familie 👨\u200d👩\u200d👧 lacht", 12, 13, "👨\u200d👩\u200d👧"),
        ("🇩🇪🇫🇷", 1, 2, "🇩🇪"),
        ("a e\u0301", 3, 4, "e\u0301"),  # begins inside a character
        ("  Rom\t", 0, 6, "Rom"),
        ("x\u00ad\u2060y", 1, 3, ""),
        ("한국어 각", 4, 5, "각"),
        ("plain text", 0, 5, "plain"),
        ("a\x00b ", 0, 4, "a\x00b"),
        ("נּ\u05b0 b", 0, 1, "נּ\u05b0"),
    ],
)
def test_by_hand(text: str, start: int, end: int, expected: str) -> None:
    first, last = readable_span(text, start, end)
    assert text[first:last] == expected


def test_words_of_running_texts() -> None:
    for text, words in (
        ("\ufeffParis liegt", ["Paris", "liegt"]),
        ("Pa\x07ris \x00 a\u200bb", ["Pa\x07ris", "a\u200bb"]),
        ("\u200bRom\u200b, ok", ["Rom", ",", "ok"]),
        ("a\u2028b\x85c", ["a", "b\x85c"]),
    ):
        assert [text[start:end] for start, end in words_of(text)] == words


@given(st.text(max_size=20), st.data())
def test_on_any_text(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    first, last = readable_span(text, start, end)
    assert 0 <= first <= last <= len(text)
    assert readable_span(text, first, last) == (first, last)
    assert text[first:last] == text[first:last].strip()
