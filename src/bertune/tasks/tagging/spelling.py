"""How a file spells its tags: B-PER, B_PER, PER-B, b-per; O, o, _ or 0 for words outside of any entity.

Decided once for a whole file from all its tags, so that no tag becomes a type of entity by mistake.
"""

import re
from collections.abc import Iterable, Mapping

from bertune.errors import InputError
from bertune.tasks.tagging.schemes import OUTSIDE, has_prefix

_OUTSIDE = ("O", "o", "_", "0", "OUT", "Out", "out", "OTHER", "other", "-")
"""What stands for outside, the likeliest first."""
_STYLES = {
    f"{name} {separator!r}": re.compile(pattern.replace("SEP", re.escape(separator)))
    for separator in ("-", "_", "/", ":", "|")
    for name, pattern in (
        ("a letter before", r"(?P<letter>[BIESLUMbieslum])SEP(?P<type>.+)$"),
        ("a letter behind", r"(?P<type>.+)SEP(?P<letter>[BIESLUMbieslum])$"),
    )
}
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


def _respelled(entities: list[str]) -> Mapping[str, str]:
    for style in _STYLES.values():
        matches = {tag: style.match(tag) for tag in entities}
        if entities and all(matches.values()):
            return {tag: f"{match['letter'].upper()}-{match['type']}" for tag, match in matches.items() if match}
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
