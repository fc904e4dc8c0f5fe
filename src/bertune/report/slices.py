"""Groups of rows in which a model may be better or worse: by length, script, label, words, and columns of the data."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.report.answers import Answered
from bertune.report.figures import slices

Flags = npt.NDArray[np.bool_]

_SCRIPTS = {
    "Chinese characters": "\u3400-\u9fff",
    "Japanese kana": "\u3040-\u30ff",
    "Hangul": "\uac00-\ud7af",
    "Cyrillic": "\u0400-\u04ff",
    "Arabic": "\u0600-\u06ff",
    "Hebrew": "\u0590-\u05ff",
    "Greek": "\u0370-\u03ff",
    "Devanagari": "\u0900-\u097f",
    "Thai": "\u0e00-\u0e7f",
}
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nothing|nobody|neither|nor|without|cannot)\b|n['\u2019]t\b|不|没|无|未", re.I
)
_WORD = re.compile(r"[\u4e00-\u9fff]|[^\W\d_]+")
MOST_VALUES = 20
"""Values of a column that are looked at, the commonest."""
UNSEEN = 0.1
"""Share of a row's words that the training data must lack."""


def slices_of(
    answered: Answered, known_texts: Iterable[str] | None, columns: Mapping[str, Sequence[str]]
) -> list[dict[str, Any]]:
    """Every group's accuracy against all other rows, with tests corrected for their number.

    Args:
        answered: rows.
        known_texts: those of the training data; None: they are not known.
        columns: values by the column's name, one a row.
    """
    correct = answered.outcomes().correct
    if correct is None:
        return []
    texts = answered.texts()
    groups = by_length(answered) | by_text(texts) | by_label(answered.truth)
    if known_texts is not None:
        groups["with words that the training data lack"] = with_unseen_words(texts, known_texts)
    for column, values in columns.items():
        common = Counter(values).most_common(MOST_VALUES)
        groups |= {f"{column}: {value}": np.array([one == value for one in values]) for value, _ in common}
    return slices(groups, np.asarray(correct))


def by_length(answered: Answered) -> dict[str, Flags]:
    """The shortest and the longest third of the rows, and those that were cut."""
    tokens = answered.tokens()
    low, high = np.quantile(tokens, [1 / 3, 2 / 3])
    return {
        f"short (up to {low:.0f} tokens)": tokens <= low,
        f"long (over {high:.0f} tokens)": tokens > high,
        "cut at the length limit": answered.cut(),
    }


def by_text(texts: Sequence[str]) -> dict[str, Flags]:
    """Rows with digits, with a negation (English or Chinese), and with letters of a script."""
    found = {
        "with digits": np.array([any(c.isdecimal() for c in text) for text in texts], np.bool_),
        "with a negation": np.array([bool(_NEGATION.search(text)) for text in texts], np.bool_),
    }
    for name, letters in _SCRIPTS.items():
        pattern = re.compile(f"[{letters}]")
        found[f"with {name}"] = np.array([bool(pattern.search(text)) for text in texts], np.bool_)
    return found


def by_label(truth: Sequence[Any]) -> dict[str, Flags]:
    """Rows of the rarest quarter of the labels, where there are more than three."""
    if not all(isinstance(one, str) for one in truth):
        return {}
    counts = Counter(truth)
    if len(counts) <= 3:
        return {}
    rare = sorted(counts, key=lambda name: counts[name])[: max(1, len(counts) // 4)]
    return {"rarest quarter of the labels": np.array([one in rare for one in truth], np.bool_)}


def with_unseen_words(texts: Sequence[str], known: Iterable[str]) -> Flags:
    """Rows of which more than UNSEEN of the words, whatever their case, occur in none of the known texts."""
    vocabulary = {word for text in known for word in _WORD.findall(text.lower())}
    found = []
    for text in texts:
        words = _WORD.findall(text.lower())
        found.append(sum(word not in vocabulary for word in words) > UNSEEN * len(words))
    return np.array(found, np.bool_)
