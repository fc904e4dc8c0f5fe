"""Words that carried a model's wrong answers, for a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertune.errors import InputError
from bertune.model.explain import explain
from bertune.model.use import Model
from bertune.report.answers import Answered
from bertune.tasks.parts import parts_of


def explanations(model: Model, answered: Answered, wrong: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Explanations of errors, as JSON objects with the true answer; none where the task has none.

    Args:
        model: that answered.
        answered: all rows.
        wrong: errors, as the report lists them.
    """
    found = []
    for one in wrong:
        texts = list(parts_of(answered.examples[int(one["row"]) - 1]).texts.values())
        item = texts[0] if len(texts) == 1 else tuple(texts[:2])
        try:
            made = explain(model, item)
        except InputError:  # a task, or a text, that cannot be explained
            continue
        found.append({"place": one["place"], "truth": one["truth"], **made.to_json()})
    return found
