"""Signs of a wrong encoding, and texts that only look like them."""

import pytest

from bertune.checking.characters import KINDS, odd_texts


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a caf\ufffd", "replacement-character"),
        ("un cafÃ©", "mojibake"),
        ("donâ€™t", "mojibake"),
        ("10Â\xa0%", "mojibake"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "mojibake"),
        ("ä¸­æ–‡", "mojibake"),
        ("锟斤拷", "mojibake"),
        ("half \ud83d", "lone-surrogate"),
        ("bell\x07", "control-character"),
        ("next\x85line", "control-character"),
        ("icon \ue001", "private-use"),
        ("joined\ufeff", "byte-order-mark"),
    ],
)
def test_kinds(text: str, kind: str) -> None:
    found = list(odd_texts(["fine", text, "fine too"]))
    assert [(index, name) for index, name, _ in found] == [(1, kind)]
    assert kind in KINDS


@pytest.mark.parametrize(
    "text",
    [
        "tabs\tand\nlines\r\n",
        "CAFÉ… und Spaß“ – «É»",
        "SÃO PAULO, IRMÃ”, MANHÃ…",
        "你好，世界 𠮷野家",
        "Привет, мир! Ελληνικά",
        "नमस्ते 👩‍👩‍👧 ﷺ",
        "naïve façade, Ångström, ½ °C",
    ],
)
def test_fine_texts(text: str) -> None:
    assert not list(odd_texts([text]))


def test_a_text_of_two_kinds_and_its_surroundings() -> None:
    found = {kind: excerpt for _, kind, excerpt in odd_texts(["before the\x01 one and Ã¼ber all, and much more"])}
    assert found.keys() == {"control-character", "mojibake"}
    assert found["mojibake"] == "he\x01 one and Ã¼ber all, and"
