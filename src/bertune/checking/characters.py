"""Characters that tell of a text read in the wrong encoding, or of bytes that are no text."""

import re
from collections.abc import Iterator, Sequence

# The characters that cp1252 and Latin-1 make of the bytes 0x80 to 0xBF, which continue a character in UTF-8; without
# the quotes, dashes and dots that may well follow a capital Ã.
_NEXT = "\x80-\xbf€‚ƒ„†‡ˆ‰Š‹ŒŽ•˜™š›œžŸ"
_MOJIBAKE = "|".join(
    (
        f"[ÂÃ][{_NEXT}]",  # é as Ã©, a no-break space as Â
        f"â€[{_NEXT}’“”–—…]?",  # punctuation: ’ as â€™
        "ï»¿|ï¿½",  # a byte order mark, and U+FFFD itself
        f"(?:[ÎÏÐÑ][{_NEXT}’“”–—…‘]){{3}}",  # Greek, Cyrillic
        f"(?:[äåæçèé][{_NEXT}’“”–—…‘]{{2}}){{2}}",  # Chinese
        "锟斤拷",  # U+FFFD twice, read as GBK
    )
)
KINDS = {
    "replacement-character": "\ufffd",
    "mojibake": _MOJIBAKE,
    "lone-surrogate": "[\ud800-\udfff]",
    "control-character": "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]",
    "private-use": "[\ue000-\uf8ff\U000f0000-\U000ffffd\U00100000-\U0010fffd]",
    "byte-order-mark": "\ufeff",
}
"""Names of what is odd, and patterns that find it."""
_PATTERNS = {kind: re.compile(pattern) for kind, pattern in KINDS.items()}
_CONTROL = _PATTERNS["control-character"]
_ANY = re.compile("|".join(KINDS.values()))


def odd_texts(texts: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    """Index of every odd text, its kind of oddity, and the odd characters with what stands around them.

    A text of several kinds comes several times. Texts that are all fine cost one search over all of them together.
    """
    plain = " ".join(text for text in texts if text.isascii())
    wide = " ".join(text for text in texts if not text.isascii())
    if (plain.isprintable() or not _CONTROL.search(plain)) and not _ANY.search(wide):
        return
    for index, text in enumerate(texts):
        if not (_CONTROL if text.isascii() else _ANY).search(text):
            continue
        for kind, one in _PATTERNS.items():
            if found := one.search(text):
                yield index, kind, text[max(0, found.start() - 12) : found.end() + 12]
