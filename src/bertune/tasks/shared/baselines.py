"""What simple methods answer, so that a model can be compared with them: tasks choose among these.

Words are those of BERT's basic tokenizer, so that Chinese needs no segmentation.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from bertune.tasks.shared.texts import Texts
from bertune.tasks.shared.words import words_of

AnswerT = TypeVar("AnswerT")

_RARE_FROM = 5000
"""Training rows from which on words of a single row are left out."""


def most_common(answers: Iterable[AnswerT]) -> AnswerT:
    """The most frequent; of equals the one that comes first."""
    (answer, _), *_ = Counter(answers).most_common(1)
    return answer


def logistic_regression(
    train: Sequence[Texts], labels: Sequence[Any], rows: Sequence[Texts], *, class_weight: str | None = None
) -> list[Any]:
    """A label for each of `rows`, by logistic regression on words and pairs of neighbouring words.

    Args:
        train: texts to learn from.
        labels: one for each of them.
        rows: texts to label.
        class_weight: as scikit-learn takes it.
    """
    from sklearn.linear_model import LogisticRegression

    seen, unseen = word_features(train, rows)
    model = LogisticRegression(C=10.0, max_iter=1000, class_weight=class_weight)
    return list(model.fit(seen, list(labels)).predict(unseen))


def logistic_regression_each(
    train: Sequence[Texts], labels: Sequence[frozenset[str]], rows: Sequence[Texts], names: Sequence[str]
) -> list[list[str]]:
    """The labels of each of `rows`: a logistic regression for every label's presence.

    Args:
        train: texts to learn from.
        labels: those of each of them.
        rows: texts to label.
        names: all labels; one that every text of `train` has is given to all of `rows`.
    """
    from sklearn.linear_model import LogisticRegression

    seen, unseen = word_features(train, rows)
    given = np.zeros((len(rows), len(names)), np.bool_)
    for i, name in enumerate(names):
        truth = np.array([name in some for some in labels])
        if truth.all():
            given[:, i] = True
        else:
            given[:, i] = LogisticRegression(C=10.0, max_iter=1000).fit(seen, truth).predict(unseen)
    return [[name for name, holds in zip(names, row, strict=True) if holds] for row in given]


def ridge_regression(train: Sequence[Texts], values: Sequence[float], rows: Sequence[Texts]) -> list[float]:
    """A number for each of `rows`, by ridge regression on words and pairs of neighbouring words."""
    from sklearn.linear_model import Ridge

    seen, unseen = word_features(train, rows)
    return [float(value) for value in Ridge(alpha=1.0).fit(seen, list(values)).predict(unseen)]


def word_features(train: Sequence[Texts], rows: Sequence[Texts]) -> tuple[Any, Any]:
    """Words as sparse columns, weighted by TF-IDF; of pairs those of either text, and of both, side by side."""
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        tokenizer=_words,
        token_pattern=None,
        ngram_range=(1, 2),
        sublinear_tf=True,
        min_df=2 if len(train) >= _RARE_FROM else 1,
    )
    vectorizer.fit([text for one in train for text in (one.text, one.pair) if text is not None])
    paired = any(one.pair for one in (*train, *rows))

    def columns(some: Sequence[Texts]) -> Any:
        first = vectorizer.transform([one.text for one in some])
        if not paired:
            return first
        second = vectorizer.transform([one.pair or "" for one in some])
        return hstack([first, second, first.multiply(second)]).tocsr()

    return columns(train), columns(rows)


def _words(text: str) -> list[str]:
    return [text[start:end] for start, end in words_of(text)]
