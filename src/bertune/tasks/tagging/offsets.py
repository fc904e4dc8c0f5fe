"""In which units a file of annotations counts its offsets: characters, JavaScript's UTF-16 units, or bytes of UTF-8.

Decided for a whole file: the unit in which most entities begin and end with words. Units differ only behind characters
beyond ASCII (bytes) or beyond the Basic Multilingual Plane, such as emoji (UTF-16).
"""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from bertune.errors import InputError
from bertune.tasks.tagging.examples import Entity, TaggedExample, word_chunks

logger = logging.getLogger(__name__)

_NAMED = 3


def _utf16(text: str) -> list[int]:
    """For every unit the character that begins there; one more for the end."""
    found: list[int] = []
    for place, char in enumerate(text):
        found.extend([place] * (2 if char > "\uffff" else 1))
    return [*found, len(text)]


def _utf8(text: str) -> list[int]:
    found: list[int] = []
    for place, char in enumerate(text):
        found.extend([place] * len(char.encode()))
    return [*found, len(text)]


_UNITS: dict[str, Callable[[str], list[int]]] = {"UTF-16 units": _utf16, "bytes of UTF-8": _utf8}


def in_characters(examples: Sequence[TaggedExample], path: Path) -> list[TaggedExample]:
    """The examples with offsets in characters, and without spaces at the edges of entities."""
    wide = [example for example in examples if example.entities and not example.text.isascii()]
    if not wide:
        return [_trimmed(example) for example in examples]
    best, fewest = "characters", _inexact(wide)
    for unit, places in _UNITS.items():
        moved = [_moved(example, places) for example in wide]
        if any(example is None for example in moved):
            continue
        inexact = _inexact([example for example in moved if example is not None])
        if inexact < fewest:
            best, fewest = unit, inexact
    if best == "characters":
        return [_trimmed(example) for example in examples]
    logger.info("%s: offsets are read as %s", path, best)
    return [_trimmed(_moved(example, _UNITS[best]) or example) for example in examples]


def _inexact(examples: Sequence[TaggedExample]) -> int:
    return sum(word_chunks(_trimmed(example))[1] for example in examples)


def _trimmed(example: TaggedExample) -> TaggedExample:
    """The example without spaces at the edges of its entities."""
    text = example.text
    if not any(text[one.start].isspace() or text[one.end - 1].isspace() for one in example.entities):
        return example
    entities = []
    for one in example.entities:
        inner = text[one.start : one.end]
        start = one.start + len(inner) - len(inner.lstrip())
        entities.append(Entity(one.label, start, max(start, one.end - len(inner) + len(inner.rstrip()))))
    return dataclasses.replace(example, entities=tuple(one for one in entities if one.start < one.end))


def _moved(example: TaggedExample, places: Callable[[str], list[int]]) -> TaggedExample | None:
    """The example with its offsets as characters; None where they reach outside of the text."""
    at = places(example.text)
    if any(entity.end >= len(at) for entity in example.entities):
        return None
    entities = tuple(Entity(one.label, at[one.start], at[one.end]) for one in example.entities)
    return dataclasses.replace(example, entities=entities)


def warn_of_inexact(examples: Sequence[TaggedExample], path: Path) -> None:
    """Name rows whose entities begin or end inside a word.

    Raises:
        InputError: It is so of most entities, which is another count of characters or another text.
    """
    off = [example for example in examples if word_chunks(example)[1]]
    if not off:
        return
    count = sum(word_chunks(example)[1] for example in off)
    total = sum(len(example.entities) for example in examples)
    shown = "; ".join(f"line {example.place}: {_first(example)}" for example in off[:_NAMED])
    more = "; …" if len(off) > _NAMED else ""
    message = f"{path}: {count} of {total} entities begin or end inside a word ({shown}{more})"
    if total >= 4 and count > 0.5 * total:
        raise InputError(
            f"{message}. Most of them: are the offsets counted in this very text, from 0, with exclusive ends?"
        )
    logger.warning("%s; the model learns the whole words", message)


def _first(example: TaggedExample) -> str:
    chunks = {(example.words[one.first][0], example.words[one.end - 1][1]) for one in word_chunks(example)[0]}
    entity = next((one for one in example.entities if (one.start, one.end) not in chunks), example.entities[0])
    return f"{entity.label} {example.text[entity.start : entity.end][:30]!r}"
