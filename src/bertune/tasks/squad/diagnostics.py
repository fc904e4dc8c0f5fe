"""Where questions are answered well and where not: by question word, by length of the answer, by null threshold."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bertune.tasks.row_metrics import Floats
from bertune.tasks.squad.reading import QuestionExample

_WORDS = ("what", "who", "whom", "whose", "when", "where", "which", "why", "how")
_SAME = {"whom": "who", "whose": "who"}
_CHINESE = {
    "为什么": "why", "什么时候": "when", "何时": "when", "哪里": "where", "哪儿": "where", "谁": "who", "多少": "how",
    "怎": "how", "如何": "how", "哪": "which", "什么": "what", "何": "what",
}  # fmt: skip
_LENGTHS = ((1, "1"), (2, "2"), (4, "3-4"), (8, "5-8"), (16, "9-16"))
"""Words (characters of Chinese text) up to which an answer is counted under a name."""
MOST_POINTS = 101


def question_word(question: str) -> str:
    """The word that a question asks by, English or Chinese, or "other"."""
    for found in re.finditer(r"[a-z]+", question.lower()):
        if found[0] in _WORDS:
            return _SAME.get(found[0], found[0])
    return next((name for mark, name in _CHINESE.items() if mark in question), "other")


def answer_length(example: QuestionExample) -> str:
    """How long the shortest gold answer is, as a name; "none" where there is none."""
    if not example.answers:
        return "none"
    length = min(len(re.findall(r"[\u4e00-\u9fff]|[^\s\u4e00-\u9fff]+", answer.text)) for answer in example.answers)
    return next((name for most, name in _LENGTHS if length <= most), "17 and more")


def by_kind(examples: Sequence[QuestionExample], scores: Floats, kind: Callable[[QuestionExample], str]) -> list[Any]:
    """Means of the rows of every kind, by falling number of rows.

    Args:
        examples: labelled questions.
        scores: exact match and F1 of each, in per cent. Shape: (questions, 2).
        kind: of a question.
    """
    names = np.array([kind(example) for example in examples])
    found = [
        {
            "kind": str(name),
            "rows": int((names == name).sum()),
            "exact_match": float(scores[names == name, 0].mean()),
            "f1": float(scores[names == name, 1].mean()),
        }
        for name in np.unique(names)
    ]
    return sorted(found, key=lambda one: -int(str(one["rows"])))


def null_curve(odds: Floats, answered: Floats, unanswered: Floats) -> list[dict[str, float]]:
    """The mean F1 at null thresholds, by which more and more questions are answered.

    Args:
        odds: score of "no answer" minus that of the best span. Shape: (questions,).
        answered: F1 of the best span. Shape: (questions,).
        unanswered: F1 of no answer. Shape: (questions,).
    """
    order = np.argsort(odds, kind="stable")
    totals = unanswered.sum() + np.cumsum((answered - unanswered)[order])
    ends = np.flatnonzero(np.append(odds[order][1:] > odds[order][:-1], True))
    shown = ends[np.unique(np.linspace(0, len(ends) - 1, min(MOST_POINTS, len(ends))).astype(int))]
    return [{"threshold": float(odds[order][at]), "f1": float(totals[at] / len(odds))} for at in shown]
