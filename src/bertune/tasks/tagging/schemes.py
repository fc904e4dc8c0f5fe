"""Tag schemes: IOB1, BIO (IOB2), BIOES and IO; tags to entities and back; which tags may follow which.

Every scheme is read by one rule, that of the CoNLL shared tasks' `conlleval`: a chunk begins at B, at S, and wherever
its type differs from that of the tag before; it ends likewise. Schemes differ in what they allow. BILOU and BMES are
BIOES under other letters.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

OUTSIDE = "O"
_LETTERS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I"}


class Chunk(NamedTuple):
    """An entity over words `first` to `end - 1`."""

    label: str
    first: int
    end: int


def split_tag(tag: str) -> tuple[str, str]:
    """Letter (O, B, I, E, S) and type: `B-PER` → (B, PER); a bare type is inside: `PER` → (I, PER)."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    letter, dash, label = tag.partition("-")
    if dash and label and letter in _LETTERS:
        return _LETTERS[letter], label
    return "I", tag


def has_prefix(tag: str) -> bool:
    """Whether a tag is O or a letter, a dash and a type."""
    letter, dash, label = tag.partition("-")
    return tag == OUTSIDE or bool(dash and label and letter in _LETTERS)


def _begins(before: tuple[str, str], here: tuple[str, str]) -> bool:
    if here[0] == OUTSIDE:
        return False
    return here[0] in "BS" or before[0] in "OES" or before[1] != here[1]


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The entities that tags of any scheme mean, legal or not, as `conlleval` counts them."""
    found: list[Chunk] = []
    before = (OUTSIDE, "")
    first = -1
    for i, tag in enumerate(tags):
        here = split_tag(tag)
        begins = _begins(before, here)
        if first >= 0 and (begins or here[0] == OUTSIDE):
            found.append(Chunk(before[1], first, i))
            first = -1
        if begins:
            first = i
        before = here
    if first >= 0:
        found.append(Chunk(before[1], first, len(tags)))
    return found


def tags_of(entities: Iterable[Chunk], words: int, scheme: str) -> list[str]:
    """One tag a word. scheme: iob1, bio, bioes or io; of entities that overlap the first one keeps its words."""
    tags = [OUTSIDE] * words
    before = Chunk("", -1, -1)
    for entity in sorted(entities, key=lambda one: (one.first, one.end)):
        first = max(entity.first, before.end)
        if first >= entity.end:
            continue
        touches = before.end == first and before.label == entity.label
        for i in range(first, entity.end):
            tags[i] = f"{_letter(scheme, i - first, entity.end - first, touches)}-{entity.label}"
        before = entity
    return tags


def _letter(scheme: str, at: int, length: int, touches: bool) -> str:
    if scheme == "bio":
        return "I" if at else "B"
    if scheme == "bioes":
        if length == 1:
            return "S"
        return "B" if at == 0 else "E" if at == length - 1 else "I"
    return "B" if scheme == "iob1" and touches and at == 0 else "I"


def guess_scheme(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme that tags were written in, by their letters and by what more entities begin with.

    Files in IOB1 hold a stray B, and files in BIO a stray I: the greater number of entities decides.
    """
    letters: set[str] = set()
    begun = {"B": 0, "I": 0}  # entities not right after one of their own type
    for tags in sentences:
        before = (OUTSIDE, "")
        for tag in tags:
            here = split_tag(tag)
            letters.add(here[0])
            if here[0] in begun and before[1] != here[1]:
                begun[here[0]] += 1
            before = here
    if letters & {"E", "S"}:
        return "bioes"
    if "B" not in letters:
        return "io"
    return "bio" if begun["B"] >= begun["I"] else "iob1"


def violations(tags: Sequence[str], scheme: str) -> list[tuple[int, str]]:
    """Words whose tag the scheme does not allow there, each with what is wrong."""
    letters = {"iob1": "OBI", "bio": "OBI", "bioes": "OBIES", "io": "OI"}[scheme]
    found: list[tuple[int, str]] = []
    before, before_tag = (OUTSIDE, ""), "the sentence's start"
    for i, tag in enumerate(tags):
        here = split_tag(tag)
        if here[0] not in letters:
            found.append((i, f"{tag!r} does not belong to the {scheme.upper()} scheme"))
        elif scheme in ("bio", "bioes") and not _may_follow(before, here, scheme):
            begin = "B-" if scheme == "bio" else "B- or S-"
            found.append((i, f"{tag!r} may not follow {before_tag}; an entity begins with {begin}"))
        before, before_tag = here, repr(tag)
    if scheme == "bioes" and tags and before[0] in "BI":
        found.append((len(tags) - 1, f"the sentence ends inside an entity ({before_tag}); it must end with E- or S-"))
    return found


def _may_follow(before: tuple[str, str], here: tuple[str, str], scheme: str) -> bool:
    goes_on = before[0] in "BI" if scheme == "bioes" else before[0] != OUTSIDE
    if here[0] in "IE":
        return goes_on and before[1] == here[1]
    return not (scheme == "bioes" and goes_on)


def model_labels(types: Sequence[str], scheme: str) -> tuple[str, ...]:
    """A model's tags: O, then those of every type."""
    letters = {"bio": "BI", "bioes": "BIES", "io": "I"}[scheme]
    return (OUTSIDE, *(f"{letter}-{label}" for label in types for letter in letters))


def legal_moves(
    labels: Sequence[str], scheme: str
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which labels may begin a sentence, follow one another, end a sentence.

    Shape: (labels,), (before, after), (labels,).
    """
    split = [split_tag(label) for label in labels]
    if scheme == "io":
        return np.ones(len(split), bool), np.ones((len(split), len(split)), bool), np.ones(len(split), bool)
    start = np.array([_may_follow((OUTSIDE, ""), here, scheme) for here in split])
    moves = np.array([[_may_follow(before, here, scheme) for here in split] for before in split])
    end = np.array([scheme != "bioes" or here[0] not in "BI" for here in split])
    return start, moves, end
