"""Google's reading of text as a tokenizer.json says it, where the `tokenizers` library's BERT rules read otherwise.

The library's BertNormalizer and BertPreTokenizer differ from google-research/bert in the final capital sigma and in
characters younger than the library's Unicode tables. A saved folder states those as further rules around BERT's own, so
that transformers gives the tokens that the model was trained on. Reading such a folder puts BERT's own rules back,
whose exceptions are handled in Python.
"""

import re
import sys
import unicodedata
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

_Json = dict[str, Any]
_UNKNOWN = "\U000101fc"  # a rare symbol that the library keeps inside a word, and no vocabulary has
_LOOKED_AT = {"Mn", "Mc", "Cf", "Cc", "So", "Sk", "Sm", "Sc", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps"}
# Case-ignorable and cased characters, as Unicode's rule for the final sigma (SpecialCasing, Final_Sigma) has them.
# Characters stand in patterns as themselves: the regular expressions of other readers (transformers.js) know no \x{…}.
_IGNORABLE = "[\\p{Mn}\\p{Me}\\p{Cf}\\p{Lm}\\p{Sk}'.:·\u2018\u2019\u2024\u2027]"
_CASED = "[\\p{Lu}\\p{Ll}\\p{Lt}]"
_FINAL_SIGMA = f"(?<={_CASED}{_IGNORABLE}*)Σ(?!{_IGNORABLE}*{_CASED})"

Words = Callable[[str], list[str]]
"""From a text to its words."""


def with_google_rules(tree: _Json, lower: bool, google: Words, library: Words) -> _Json:
    """A tokenizer.json of BERT's with the further rules.

    Args:
        tree: with BertNormalizer, BertPreTokenizer and WordPiece.
        lower: whether text is lowered.
        google: the words as Google's code finds them.
        library: the words as the library finds them.
    """
    dropped, alone, kept = _differences(lower, google, library)
    rules = [_replace(f"[{_class(_controls() + dropped)}]", ""), _replace("[\t\n\r\\p{Zs}]", " ")]
    if lower:
        rules.append(_replace(_FINAL_SIGMA, "ς"))
    if kept:
        rules.append(_replace(f"[{_class(kept)}]", _UNKNOWN))
    bert = tree["normalizer"] | {"clean_text": False}  # which would drop private use; the first rules do the rest of it
    made = tree | {"normalizer": {"type": "Sequence", "normalizers": [*rules, bert]}}
    if alone:
        split = {"type": "Split", "pattern": {"Regex": f"[{_class(alone)}]"}, "behavior": "Isolated", "invert": False}
        made["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, tree["pre_tokenizer"]]}
    return made


def without_google_rules(tree: _Json) -> _Json:
    """BERT's own rules of a tokenizer.json that `with_google_rules` made; any other tree as it is."""
    *added, bert = (tree.get("normalizer") or {}).get("normalizers") or [{}]
    if bert.get("type") != "BertNormalizer" or bert.get("clean_text") is not False or not added:
        return tree
    ours = [_replace("[\t\n\r\\p{Zs}]", " "), *([_replace(_FINAL_SIGMA, "ς")] if bert.get("lowercase") else [])]
    cleaning, further = added[0].get("pattern") or {}, added[1 + len(ours) :]
    if not str(cleaning.get("Regex")).startswith("[\0-") or added[1 : 1 + len(ours)] != ours:
        return tree
    if len(further) > 1 or any(rule.get("content") != _UNKNOWN for rule in further):
        return tree
    splitter = tree.get("pre_tokenizer") or {}
    return tree | {
        "normalizer": bert | {"clean_text": True},
        "pre_tokenizer": (splitter.get("pretokenizers") or [splitter])[-1],
    }


def _replace(pattern: str, content: str) -> _Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


_found: dict[bool, tuple[str, str, str]] = {}


def _differences(lower: bool, google: Words, library: Words) -> tuple[str, str, str]:
    """Characters that Google's code drops, sets apart, or keeps within a word where the library does not."""
    if lower not in _found:
        dropped, alone, kept = [], [], []
        for char in _candidates():
            ours, theirs = google(f"a{char}b"), library(f"a{char}b")
            if ours == theirs:
                continue
            if ours == ["ab"]:
                dropped.append(char)
            elif len(ours) == 3:
                alone.append(char)
            elif len(ours) == 1:
                kept.append(char)
        _found[lower] = "".join(dropped), "".join(alone), "".join(kept)
    return _found[lower]


@cache
def _controls() -> str:
    """Characters that Google's cleaning drops."""
    characters = (chr(code) for code in range(sys.maxunicode + 1))
    dropped = (char for char in characters if unicodedata.category(char) in ("Cc", "Cf") or char == "\ufffd")
    return "".join(char for char in dropped if char not in "\t\n\r")


@cache
def _candidates() -> str:
    """Characters that BERT's rules treat in a way of their own, those beyond ASCII."""
    cjk = re.compile("[\U0002b740-\U0002ceaf]")
    characters = (chr(code) for code in range(0x80, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000)
    return "".join(char for char in characters if unicodedata.category(char) in _LOOKED_AT or cjk.match(char))


def _class(characters: Iterable[str]) -> str:
    """The inside of a character class, neighbours as ranges."""
    parts: list[str] = []
    first = last = -2
    for code in [*sorted({ord(char) for char in characters}), -2]:
        if code == last + 1:
            last = code
            continue
        if first >= 0:
            parts.append(chr(first) + (f"-{chr(last)}" if last > first else ""))
        first = last = code
    return "".join(parts)
