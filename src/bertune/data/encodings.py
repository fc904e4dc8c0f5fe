"""The character encoding of a file, recognised from its bytes.

UTF-8, UTF-16 and UTF-32 are recognised with certainty. Among the older encodings the one is taken whose text looks most
like a language: whose characters beyond ASCII are the commonest of the languages written in it. The rule is kept here
and not left to a library, because the same file must be read the same way on every machine and by every release.
"""

import codecs
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bertune.data import common_characters
from bertune.errors import InputError
from bertune.files.text_files import chunks

_MARKS = {  # the mark of UTF-32-LE begins with that of UTF-16-LE
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_COMMON = {
    "gb18030": common_characters.SIMPLIFIED_CHINESE,
    "big5hkscs": common_characters.TRADITIONAL_CHINESE,
    "cp932": common_characters.JAPANESE,
    "euc_jp": common_characters.JAPANESE,
    "cp949": common_characters.KOREAN,
    "cp1251": common_characters.CYRILLIC,
    "cp1252": common_characters.WESTERN_EUROPEAN,
    "cp1250": common_characters.CENTRAL_EUROPEAN,
    "cp1253": common_characters.GREEK,
    "cp1254": common_characters.TURKISH,
    "cp850": common_characters.WESTERN_EUROPEAN,
    "mac_roman": common_characters.WESTERN_EUROPEAN,
}
"""By encoding the commonest characters beyond ASCII of the languages written in it. Of equal ones the first is taken;
single-byte encodings come last."""
_SINGLE = ("cp1251", "cp1252", "cp1250", "cp1253", "cp1254", "cp850", "mac_roman")
_RARE, _RARE_COSTS = ("cp850", "mac_roman"), 0.1
"""Encodings of systems that are gone: taken where they fit clearly better."""
NAMES = {
    "gb18030": "GB18030",
    "big5hkscs": "Big5",
    "cp932": "Shift-JIS",
    "euc_jp": "EUC-JP",
    "cp949": "EUC-KR",
    "cp1251": "Windows-1251",
    "cp1252": "Windows-1252",
    "cp1250": "Windows-1250",
    "cp1253": "Windows-1253",
    "cp1254": "Windows-1254",
    "cp850": "MS-DOS 850",
    "mac_roman": "Mac Roman",
    "utf-8": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
}
"""Python's codecs as people call them."""
_LOOKED_AT = 1 << 18
"""Bytes around the first one beyond ASCII that decide."""
_GZIPPED_CHUNKS = 8
"""Chunks of a gzipped file that are searched: unpacking it all would take as long as reading it."""
_LEAST = 0.35
"""Mean score of characters under which a text looks like no language."""


@dataclass(frozen=True)
class Encoding:
    """Python's name of a codec. recognised: whether it was told by the bytes and is not UTF-8 as expected."""

    codec: str
    recognised: bool = False

    @property
    def name(self) -> str:
        """As people call it."""
        return NAMES.get(self.codec, self.codec)


def named_encoding(name: str) -> str:
    """Python's codec for what a user calls an encoding.

    Raises:
        InputError: there is none of that name.
    """
    plain = name.strip().lower().replace("_", "-")
    aliases = {"windows-31j": "cp932", "shift-jis": "cp932", "sjis": "cp932", "ansi": "cp1252", "latin1": "cp1252"}
    aliases |= {"latin-1": "cp1252", "iso-8859-1": "cp1252", "big5": "big5hkscs", "gbk": "gb18030", "gb2312": "gb18030"}
    try:
        found = codecs.lookup(aliases.get(plain, plain))
        "a".encode(found.name)
    except (LookupError, UnicodeError):
        known = ", ".join(dict.fromkeys(NAMES.values()))
        raise InputError(f"--encoding {name}: no such encoding; for example {known}") from None
    return found.name.removesuffix("-sig")


def encoding_of(path: Path, gzipped: bool) -> Encoding:
    """The encoding of a file, from the first bytes of it that are not ASCII.

    Raises:
        InputError: the file cannot be read, or its text looks like no language in any known encoding.
    """
    stream = chunks(path, gzipped)
    for number, chunk in enumerate(stream):
        if number == 0 and (marked := _marked(chunk)):
            return marked
        if not chunk.isascii():
            first = next(i for i in range(0, len(chunk), 1 << 12) if not chunk[i : i + (1 << 12)].isascii())
            part = chunk[first : first + _LOOKED_AT]
            if first + _LOOKED_AT >= len(chunk):
                part += next(stream, b"")[: max(0, _LOOKED_AT - len(part))]
            return _of_bytes(path, part)
        if gzipped and number + 1 >= _GZIPPED_CHUNKS:
            break
    return Encoding("utf-8")


def _marked(head: bytes) -> Encoding | None:
    """By a byte order mark, or by the zero bytes that UTF-16 has in ASCII characters."""
    for mark, codec in _MARKS.items():
        if head.startswith(mark):
            return Encoding(codec, recognised=codec != "utf-8")
    sample = head[:4096]
    if len(sample) >= 4 and b"\0" in sample:
        for codec, zeros, others in (
            ("utf-16-le", sample[1::2], sample[::2]),
            ("utf-16-be", sample[::2], sample[1::2]),
        ):
            if zeros.count(0) > 0.4 * len(zeros) and others.count(0) < 0.02 * len(others) + 1:
                return Encoding(codec, recognised=True)
    return None


def _of_bytes(path: Path, part: bytes) -> Encoding:
    """From a part of a file that holds bytes beyond ASCII."""
    # Whole lines where possible, so that no character is cut at the end.
    part = part[: part.rfind(b"\n") + 1] or part
    whole, broken = _utf8_sequences(part)
    if whole and broken <= 0.2 * whole:
        return Encoding("utf-8")
    scores = {codec: _score(codec, part) for codec in _COMMON}
    best = max(scores, key=lambda codec: scores[codec] - (_RARE_COSTS if codec in _RARE else 0))
    if scores[best] < _LEAST:
        line = next((line for line in part.split(b"\n") if not line.isascii()), part)[:60]
        looks = ", ".join(f"as {NAMES[codec]} {line.decode(codec, 'replace')!r}" for codec in ("cp1252", "gb18030"))
        raise InputError(
            f"{path}: is not UTF-8, and cannot tell which encoding it is in ({looks}); name it with --encoding, or "
            "save the file as UTF-8"
        )
    return Encoding(best, recognised=True)


def _utf8_sequences(part: bytes) -> tuple[int, int]:
    """How many characters beyond ASCII are well-formed UTF-8, and how many bytes are not."""
    text = part.decode("utf-8", "surrogateescape")
    broken = sum("\udc80" <= char <= "\udcff" for char in text)
    return sum(char > "\x7f" for char in text) - broken, broken


def _score(codec: str, part: bytes) -> float:
    """How much the characters beyond ASCII look like a language in that encoding; a mean, at most 1."""
    text = part.decode(codec, "replace")
    if codec in ("cp850", "mac_roman") and text.replace("\xa0", "").isascii():
        return 0.0  # a lone byte that is a space there is rather damage than a text of those times
    common, single = _common_sets[codec], codec in _SINGLE
    values = list(_of_characters(text, common, single=single))
    return sum(values) / len(values) if values else 0.0


def _of_characters(text: str, common: frozenset[str], *, single: bool) -> Iterable[float]:
    before = " "
    for char, after in zip(text, text[1:] + " ", strict=False):
        if char > "\x7f":
            if char in common:
                yield _fit(char, before, after) if single else 1.0
            elif char == "\ufffd" or "\ue000" <= char <= "\uf8ff" or "\x80" <= char <= "\x9f":
                yield -4.0
            elif "\uff61" <= char <= "\uff9f":  # half-width katakana: any high byte is one in Shift-JIS
                yield -0.5
            else:
                yield (0.0 if single else 0.3) if char.isalpha() else -0.5
        before = char


def _fit(char: str, before: str, after: str) -> float:
    """How well a character of a single-byte encoding stands where it does.

    In Latin scripts letters beyond ASCII stand among plain ones, Cyrillic and Greek ones among their own kind. No word
    mixes two scripts, has a capital behind a small letter, a mark other than an apostrophe between two letters, a
    final sigma before its end, or a thorn behind its first letter.
    """
    plain = (before + after).isascii()
    if not char.isalpha():
        if before.isalpha() and after.isalpha() and char not in "’´·°\xa0–—":
            return -1.0
        return 1.0 if plain else 0.4
    if (char.isupper() and before.islower()) or (char == "ς" and after.isalpha()) or (char == "þ" and before.isalpha()):
        return -1.0
    if own := next((script for script in (_CYRILLIC, _GREEK) if char in script), None):
        if any(other.isascii() and other.isalpha() for other in (before, after)):
            return -1.0
        return 1.0 if before in own or after in own else 0.0
    if any(other.isascii() and other.isalpha() for other in (before, after)):
        return 1.0
    return 0.7 if plain else 0.0


_common_sets = {codec: frozenset(characters) for codec, characters in _COMMON.items()}
_CYRILLIC = frozenset(map(chr, range(0x400, 0x460)))
_GREEK = frozenset(map(chr, range(0x370, 0x400)))
