"""Labels that look like one another, or stand for a missing value, and are learnt as classes of their own."""

import math
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence

_MISSING = frozenset({"nan", "none", "null", "n/a", "na", "<na>", "#n/a", "nat"})
"""What programs write where there is no value."""


def similar_labels(labels: Iterable[str]) -> list[tuple[list[str], str]]:
    """Groups of labels that are one and the same to the eye or as numbers, and in what they differ."""
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for label in labels:
        groups[_canonical(label)].append(label)
    return [(names, _difference(names)) for names in groups.values() if len(names) > 1]


def labels_of_missing_values(labels: Iterable[str]) -> list[str]:
    """Labels such as nan, none and N/A."""
    return [label for label in labels if label.casefold() in _MISSING]


def shown(names: Sequence[str], most: int = 8) -> str:
    """Labels so that their difference is visible: with escapes where the letters look alike."""
    visible = {_visible(name) for name in names}
    written = [repr(name) if len(visible) == len(names) else ascii(name) for name in names[:most]]
    return ", ".join(written) + (f", … and {len(names) - most} more" if len(names) > most else "")


def _visible(label: str) -> str:
    """A label in the compatible form of Unicode, without format characters (a zero-width space)."""
    composed = unicodedata.normalize("NFKC", label)
    return "".join(char for char in composed if unicodedata.category(char) not in ("Cf", "Cc"))


def _folded(label: str) -> str:
    return " ".join(label.split()).casefold()


def _canonical(label: str) -> str:
    text = _folded(_visible(label))
    try:
        number = float(text)
    except ValueError:
        return text
    return text if math.isnan(number) else repr(number)


def _difference(names: Sequence[str]) -> str:
    if len(set(map(_folded, names))) == 1:
        return "letter case or spaces"
    if len({_folded(_visible(name)) for name in names}) == 1:
        return "invisible characters or Unicode's forms of a letter"
    return "how a number is written"
