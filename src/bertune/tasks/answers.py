"""The answer in a prediction and the truth in an example, whatever the task: by the names that all tasks share."""

from typing import Any

from bertune.tasks.protocol import Prediction


def answer_of(prediction: Prediction) -> str | int | float | frozenset[Any] | None:
    """The part of a prediction that is its answer, by the keys that every task's predictions share."""
    if "entities" in prediction:
        return frozenset((one["label"], one["start"], one["end"]) for one in prediction["entities"])
    if "labels" in prediction:
        return frozenset(prediction["labels"])
    for name in ("label", "answer"):
        if name in prediction:
            found: str | int = prediction[name]
            return found
    return float(prediction["score"]) if prediction.keys() == {"score"} else None


def truth_of(example: Any) -> Any:
    """The part of an example that is its true answer; None where it has none of a known kind."""
    for name in ("label", "value", "labels", "entities", "answer"):
        if hasattr(example, name):
            return getattr(example, name)
    answers = getattr(example, "answers", None)
    return None if answers is None else tuple(answer.text for answer in answers)
