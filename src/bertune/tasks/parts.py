"""What a look at data needs of an example, whatever its task: texts, what they are labelled with, where it stands."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ExampleParts:
    """An example taken apart.

    texts: by what they are called.
    labels: names to count: a class, several of them, types of entities, places of right answers.
    number: what regression learns.
    answer: what examples of the same texts must agree on; None: their labels and number.
    place: line of the file from 1, a place in words, or 0 where it is unknown.
    """

    texts: Mapping[str, str]
    labels: Sequence[str] = ()
    number: float | None = None
    answer: Hashable = None
    place: int | str = 0


def parts_of(example: Any) -> ExampleParts:
    """An example's parts: what its method `parts()` says, else its attributes of the customary names.

    Those are text, pair (None: absent), label or labels, value, place.
    """
    if hasattr(example, "parts"):
        parts: ExampleParts = example.parts()
        return parts
    text, pair = getattr(example, "text", None), getattr(example, "pair", None)
    texts = {"text": text} if isinstance(text, str) else {}
    if isinstance(pair, str):
        texts["pair"] = pair
    label, labels, value = getattr(example, "label", None), getattr(example, "labels", None), None
    if label is not None:
        labels = (str(label),)
    elif isinstance(labels, Iterable) and not isinstance(labels, str):
        labels = tuple(sorted(map(str, labels)))
    elif labels is not None:
        labels = (str(labels),)
    else:
        value = getattr(example, "value", None)
    number = float(value) if isinstance(value, int | float) else None
    place = getattr(example, "place", 0)
    return ExampleParts(texts, labels or (), number, None, place if isinstance(place, int) else str(place))
