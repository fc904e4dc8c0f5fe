"""How a file spells its tags: B-PER, B_PER, PER-B, b-per; O, o, _ or 0 for words outside of any entity.

Decided once for a whole file from all its tags, so that no tag becomes a type of entity by mistake.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping

from bertune.errors import InputError
from bertune.tasks.tagging.schemes import OUTSIDE, has_prefix, split_tag

_OUTSIDE = ("O", "o", "_", "0", "OUT", "Out", "out", "OTHER", "other", "-")
"""What stands for outside, the likeliest first."""
_STYLES = (
    re.compile(r"(?P<letter>[BIESLUMbieslum])(?P<separator>[^\w\s]|_)(?P<type>.+)$"),
    re.compile(r"(?P<type>.+)(?P<separator>[^\w\s]|_)(?P<letter>[BIESLUMbieslum])$"),
)
"""A letter before the type, or behind it. Any mark may separate them (B-PER, B_PER, B.PER, B–PER)."""
_UNNAMED = "ENTITY"
"""The type of entities in files whose tags are letters alone."""
_DASHES = re.compile(r"(?P<letter>[BI])[-_/:|.](?P<type>.+)$")
_GLUED = re.compile(r"(?P<letter>[BI])(?P<type>[A-Z]{2,}|[-_ ].+)$")


def normal_spelling(used: Iterable[str], scheme: str) -> dict[str, str]:
    """Every tag of a file as bertune writes it: O, or a letter, a hyphen and a type; bare types stay as they are.

    Args:
        used: All tags of the file.
        scheme: As the user named it; io allows files in which every word has a type (parts of speech).

    Returns: empty where all are written so already.

    Raises:
        InputError: Tags that look like a mistake: with white space, without any tag for outside, types in pairs that
            begin with B and I.
    """
    tags = list(dict.fromkeys(used))
    wide = {tag: unicodedata.normalize("NFKC", tag) for tag in tags}
    if any(not tag.isascii() for tag in tags) and _fullwidth(tags):
        plain = normal_spelling(wide.values(), scheme)
        return {tag: plain.get(wide[tag], wide[tag]) for tag in tags}
    spaced = [tag for tag in tags if re.search(r"\s", tag)]
    if spaced:
        raise InputError(
            f"the tag {spaced[0]!r} holds white space; every token has one tag (a sentence a line: its words in one "
            "column, its tags in another, or word/TAG)"
        )
    outside = _outside(tags)
    entities = [tag for tag in tags if tag not in outside]
    found = dict.fromkeys(outside, OUTSIDE)
    if any(has_prefix(tag) for tag in entities):
        found |= {tag: tag for tag in entities}  # the usual form; a stray tag without a letter is reported by line
    else:
        found |= _respelled(entities)
    _refuse_families({split_tag(tag)[1] for tag in found.values()})
    if not outside and entities and not any(has_prefix(found[tag]) for tag in entities) and scheme != "io":
        raise InputError(
            f"no word is outside of any entity: no tag is O (nor o, _, 0, OUT), the tags are {_listed(tags)}. Is the "
            "column of the tags right (--tag-at, --tags-column)? Where every word has a tag of its own, as parts of "
            "speech: --scheme io"
        )
    return {} if all(tag == plain for tag, plain in found.items()) else found


def _outside(tags: list[str]) -> list[str]:
    """The tags that stand for outside; several only where they differ in case."""
    present = next((tag for tag in _OUTSIDE if tag in tags), None)
    if present is None:
        return []
    return [tag for tag in tags if tag.lower() == present.lower()]


def _fullwidth(tags: list[str]) -> bool:
    """Whether some tag's letter is one of the wide ones that Chinese and Japanese keyboards type."""
    return any("\uff21" <= char <= "\uff5a" for tag in tags for char in (tag[0], tag[-1]))


def _refuse_families(types: set[str]) -> None:
    """Refuse types that come in pairs beginning with B and I: their tags have two letters."""
    begun = {match["type"]: name for name in types if (match := _DASHES.match(name)) and match["letter"] == "B"}
    for name in sorted(types):
        match = _DASHES.match(name)
        if match and match["letter"] == "I" and match["type"] in begun:
            raise InputError(
                f"{begun[match['type']]!r} and {name!r} would be two types of entities; if they are the beginning and "
                f"the inside of {match['type']!r}, write the tags B-{match['type']} and I-{match['type']}"
            )


def _respelled(entities: list[str]) -> Mapping[str, str]:
    for style in _STYLES:
        matches = [match for tag in entities if (match := style.match(tag))]
        separators = {match["separator"] for match in matches}
        letters = {match["letter"].upper() for match in matches}
        # Marks that names hold too (U.S.) divide only where some entity begins.
        sure = separators <= set("-_/:|") or "B" in letters
        if entities and len(matches) == len(entities) and len(separators) == 1 and sure:
            return {match[0]: f"{match['letter'].upper()}-{match['type']}" for match in matches}
    if {"B", "I"} <= set(entities) <= set("BIES"):
        return {tag: f"{tag}-{_UNNAMED}" for tag in entities}
    glued = {tag: match for tag in entities if (match := _GLUED.match(tag))}
    families = {match["type"] for match in glued.values() if match["letter"] == "B"}
    paired = [tag for tag, match in glued.items() if match["letter"] == "I" and match["type"] in families]
    if paired:
        other = "B" + paired[0][1:]
        raise InputError(
            f"the tags {other!r} and {paired[0]!r} would be types of their own; if they are the beginning and the "
            f"inside of {paired[0][1:]!r}, write B-{paired[0][1:].strip('-_')} and I-{paired[0][1:].strip('-_')}"
        )
    return {tag: tag for tag in entities}


def _listed(tags: list[str]) -> str:
    return ", ".join(map(repr, tags[:10])) + (", …" if len(tags) > 10 else "")


def described(spelling: Mapping[str, str]) -> str:
    """For the log: how tags are read."""
    changed = [f"{tag} as {plain}" for tag, plain in spelling.items() if tag != plain]
    return ", ".join(changed[:6]) + (", …" if len(changed) > 6 else "")
