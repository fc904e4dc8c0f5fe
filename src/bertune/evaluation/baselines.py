"""What simple methods reach on the same rows: a model that does not beat them has learnt little.

* majority: the commonest answer of the training data for every row, of unanswerable questions none; for numbers
  "mean", their mean; for entities "known_words", those of the training data wherever their words stand again (the
  baseline of the CoNLL-2003 shared task).
* tfidf_logistic_regression: logistic regression on words and pairs of neighbouring words, weighted by TF-IDF; for
  several labels one for each; for numbers "tfidf_ridge", ridge regression.

Words are those of BERT's basic tokenizer, so that Chinese needs no segmentation.
"""

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bertune.evaluation.outcomes import judge_of
from bertune.tasks.multi_label import MultiLabelClassification
from bertune.tasks.multiple_choice import MultipleChoice
from bertune.tasks.question_answering import QuestionAnswering
from bertune.tasks.regression import Regression
from bertune.tasks.tagging.examples import words_of
from bertune.tasks.task import Prediction, Task
from bertune.tasks.text_classification import TextClassification
from bertune.tasks.texts import Texts
from bertune.tasks.token_classification import TokenClassification

logger = logging.getLogger(__name__)

_RARE_FROM = 5000
"""Training rows from which on words of a single row are left out."""

Method = Callable[[Any, Sequence[Any], Sequence[Any]], list[Prediction]]
"""Task, training examples, examples to answer → predictions."""


def methods_for(task: Task[Any]) -> Mapping[str, Method]:
    """The simple methods that fit a task, by name; none where its answers are no labels, numbers or known words."""
    if isinstance(task, QuestionAnswering) and not task.has_unanswerable:
        return {}
    return next((methods for kind, methods in _METHODS.items() if isinstance(task, kind)), {})


def baselines(task: Task[Any], train: Sequence[Any], validation: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Metrics on the validation examples of every simple method that fits the task.

    Args:
        task: as training data taught it.
        train: examples to learn from.
        validation: examples to answer.

    Returns: by the method's name, without those that can learn nothing from these rows, which is said; nothing where
    none fits, which is said too.
    """
    judge = judge_of(task)
    methods = methods_for(task)
    if judge is None or not methods:
        logger.warning("--baselines: no simple method gives answers like those of %s", task.name)
        return {}
    found = {}
    for name, method in methods.items():
        logger.info("baseline %s: learning from %d rows", name, len(train))
        try:
            found[name] = judge(task, validation, method(task, train, validation)).values()
        except ValueError as error:  # scikit-learn's word for data that teach nothing: texts without words, one class
            logger.warning("--baselines: %s cannot learn from these rows (%s)", name, error)
    return found


def _majority_label(task: TextClassification, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    return [{"label": _commonest(example.label for example in train)}] * len(rows)


def _majority_choice(task: MultipleChoice, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    return [{"answer": _commonest(example.answer for example in train)}] * len(rows)


def _majority_labels(task: MultiLabelClassification, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    return [{"labels": sorted(_commonest(example.labels for example in train))}] * len(rows)


def _no_answer(task: QuestionAnswering, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    return [{"answer": ""}] * len(rows)


def _mean(task: Regression, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    return [{"score": task.mean}] * len(rows)


def _known_words(task: TokenClassification, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    """Entities of the training data wherever their very words stand, the longest first, with the commonest type."""
    types: dict[tuple[str, ...], Counter[str]] = {}
    for example in train:
        for entity in example.entities:
            inside = [example.text[a:b] for a, b in example.words if entity.start <= a and b <= entity.end]
            types.setdefault(tuple(inside), Counter())[entity.label] += 1
    types.pop((), None)
    longest = max(map(len, types), default=0)
    predictions: list[Prediction] = []
    for example in rows:
        words = [example.text[a:b] for a, b in example.words]
        entities, at = [], 0
        while at < len(words):
            size = next((n for n in range(longest, 0, -1) if tuple(words[at : at + n]) in types), 0)
            if size:
                size = min(size, len(words) - at)
                (label, _), *_ = types[tuple(words[at : at + size])].most_common(1)
                entities.append({"label": label, "start": example.words[at][0], "end": example.words[at + size - 1][1]})
            at += max(1, size)
        predictions.append({"entities": entities})
    return predictions


def _commonest(answers: Any) -> Any:
    """The most frequent; of equals the one that comes first."""
    (answer, _), *_ = Counter(answers).most_common(1)
    return answer


def _logistic(task: TextClassification, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:
    from sklearn.linear_model import LogisticRegression

    balanced = "balanced" if task.options.class_weights == ["balanced"] else None
    model = LogisticRegression(C=10.0, max_iter=1000, class_weight=balanced)
    seen, unseen = _tfidf(train, rows)
    model.fit(seen, [example.label for example in train])
    return [{"label": str(label)} for label in model.predict(unseen)]


def _logistic_each(task: MultiLabelClassification, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:
    from sklearn.linear_model import LogisticRegression

    seen, unseen = _tfidf(train, rows)
    given = np.zeros((len(rows), len(task.labels)), np.bool_)
    for i, label in enumerate(task.labels):
        truth = np.array([label in example.labels for example in train])
        if truth.all():
            given[:, i] = True
        else:
            given[:, i] = LogisticRegression(C=10.0, max_iter=1000).fit(seen, truth).predict(unseen)
    return [{"labels": [task.labels[i] for i in np.flatnonzero(row)]} for row in given]


def _ridge(task: Regression, train: Sequence[Any], rows: Sequence[Any]) -> list[Prediction]:  # noqa: ARG001
    from sklearn.linear_model import Ridge

    seen, unseen = _tfidf(train, rows)
    model = Ridge(alpha=1.0).fit(seen, [example.value for example in train])
    return [{"score": float(value)} for value in model.predict(unseen)]


def _tfidf(train: Sequence[Texts], rows: Sequence[Texts]) -> tuple[Any, Any]:
    """Weighted words of both sets; of pairs those of either text, and of what both share, side by side."""
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


_METHODS: dict[type, dict[str, Method]] = {
    TextClassification: {"majority": _majority_label, "tfidf_logistic_regression": _logistic},
    MultiLabelClassification: {"majority": _majority_labels, "tfidf_logistic_regression": _logistic_each},
    Regression: {"mean": _mean, "tfidf_ridge": _ridge},
    MultipleChoice: {"majority": _majority_choice},
    QuestionAnswering: {"majority": _no_answer},
    TokenClassification: {"known_words": _known_words},
}
