"""A text, its words and its entities, all by characters."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bertune.tasks.parts import ExampleParts
from bertune.tasks.tagging.schemes import Chunk, chunks


@dataclass(frozen=True, slots=True)
class Entity:
    """`text[start:end]`, in code points."""

    label: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TaggedExample:
    """A text with words and, where they are known, entities.

    words: start and end of every word, ascending.  place: line of the file where it was read; 0 for none.
    """

    text: str
    words: tuple[tuple[int, int], ...]
    entities: tuple[Entity, ...] = ()
    place: int = 0

    def parts(self) -> ExampleParts:
        """For a look at the data: the text, and a label for every entity."""
        labels = tuple(entity.label for entity in self.entities)
        return ExampleParts({"text": self.text}, labels, None, ("entities", *self.entities), self.place)


def from_tokens(tokens: Sequence[str], tags: Sequence[str] | None, place: int) -> TaggedExample:
    """Tokens joined by spaces, with the entities that their tags mean."""
    ends = list(itertools.accumulate(len(token) + 1 for token in tokens))
    words = tuple((end - 1 - len(token), end - 1) for token, end in zip(tokens, ends, strict=True))
    found = () if tags is None else tuple(chars_of(chunk, words) for chunk in chunks(tags))
    return TaggedExample(" ".join(tokens), words, found, place)


def chars_of(chunk: Chunk, words: Sequence[tuple[int, int]]) -> Entity:
    """An entity over words as one over characters."""
    return Entity(chunk.label, words[chunk.first][0], words[chunk.end - 1][1])


def word_chunks(example: TaggedExample) -> tuple[list[Chunk], int]:
    """The example's entities over its words, and how many of them begin or end inside a word.

    Those are widened to the words they touch; an entity that touches none is left out.
    """
    found: list[Chunk] = []
    inexact = 0
    at = 0
    for entity in sorted(example.entities, key=lambda one: one.start):
        while at < len(example.words) and example.words[at][1] <= entity.start:
            at += 1
        end = at
        while end < len(example.words) and example.words[end][0] < entity.end:
            end += 1
        if end == at:
            inexact += 1
            continue
        found.append(Chunk(entity.label, at, end))
        inexact += (example.words[at][0], example.words[end - 1][1]) != (entity.start, entity.end)
    return found, inexact
