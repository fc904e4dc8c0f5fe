"""What simple methods reach on the same rows: a model that does not beat them has learnt little.

The methods are the task's own (`Task.baselines`):

* majority: the commonest answer of the training data for every row, of unanswerable questions none; for numbers
  "mean", their mean; for entities "known_words", those of the training data wherever their words stand again (the
  baseline of the CoNLL-2003 shared task).
* tfidf_logistic_regression: logistic regression on words and pairs of neighbouring words, weighted by TF-IDF; for
  several labels one for each; for numbers "tfidf_ridge", ridge regression.
"""

import logging
from collections.abc import Sequence
from typing import Any

from bertune.errors import counted
from bertune.tasks.protocol import Task

logger = logging.getLogger(__name__)


def baselines(task: Task[Any], train: Sequence[Any], validation: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Metrics on the validation examples of every simple method that fits the task.

    Args:
        task: as fitted to the training data.
        train: examples to learn from.
        validation: examples to answer.

    Returns: by the method's name, without those that can learn nothing from these rows, which is said; nothing where
    none fits, which is said too.
    """
    methods = task.baselines()
    if not methods:
        logger.warning("--baselines: no simple method gives answers like those of %s", task.name)
        return {}
    found = {}
    for name, method in methods.items():
        logger.info("baseline %s: learning from %s", name, counted(len(train), "row"))
        try:
            rows = task.row_metrics(validation, method(train, validation))
        except ValueError as error:  # scikit-learn's word for data that teach nothing: texts without words, one class
            logger.warning("--baselines: %s cannot learn from these rows (%s)", name, error)
            continue
        if rows is None:
            logger.warning("--baselines: %s gives no row_metrics, which baselines are judged by", task.name)
            return {}
        found[name] = rows.metrics()
    return found
