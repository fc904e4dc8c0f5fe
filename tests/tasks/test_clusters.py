"""Grapheme clusters with and without the `regex` package."""

import random
import unicodedata

import pytest
import regex

from bertune.tasks.clusters import cluster_starts, starts_without_regex


def by_regex(text: str) -> list[int]:
    return [found.start() for found in regex.finditer(r"\X", text)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain text",
        "Zoe\u0308\r\n\u200bRom",
        "👨\u200d👩\u200d👧 🇩🇪🇫🇷 👍🏽 1️⃣",
        "한국어 각 가",
        "यह गुरु है नमस्ते क्षि",
        "ক্ষ క్ష ക്ഷ ဂ္ဂ ក្ក",
        "க்ஷ ก็ กำ",
    ],
)
def test_by_hand(text: str) -> None:
    assert starts_without_regex(text) == by_regex(text) == cluster_starts(text)


def test_on_random_neighbours() -> None:
    """Characters of all scripts side by side, marks and Indic letters more often; spacing vowel signs apart."""
    every = [chr(code) for code in range(32, 0xD800) if unicodedata.category(chr(code)) not in ("Cn", "Mc")]
    marks = [char for char in every if unicodedata.category(char) in ("Mn", "Me", "Cf")]
    indic = [char for char in every if 0x900 <= ord(char) < 0xE00]
    chance = random.Random(0)
    for _ in range(20_000):
        text = "".join(
            chance.choice(chance.choice((every, marks, indic, "\u200d\u094d\u0915\u0930 "))) for _ in range(5)
        )
        assert starts_without_regex(text) == by_regex(text), [hex(ord(char)) for char in text]
