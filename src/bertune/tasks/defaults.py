"""What a task may leave out: the parts of the protocol that have an answer for most tasks."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from bertune.checkpoints.huggingface import KIND
from bertune.checkpoints.names import Rename
from bertune.data.features import Features
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.options import refuse_changed
from bertune.tasks.task import Defaults, HuggingFaceHead, Logits, Prediction

ClassT = TypeVar("ClassT", bound=type)

_NOT_LEARNT = ("name", "options", "metric", "defaults")
_MEANING = "bertune_head_meaning"
"""What config.json tells of a head's outputs, so that no other task takes them for its own."""


def complete(task: ClassT) -> ClassT:
    """A class decorator: the task with every optional part of the protocol that it does not define itself.

    The class must be a frozen dataclass with the fields `name` and `options`; its other fields are what it learns, of
    values that JSON can hold (lists come back as tuples).
    """
    for name, part in vars(_Parts).items():
        if not name.startswith("__") and not hasattr(task, name):
            setattr(task, name, part)
    return task


@dataclass(frozen=True)
class NoOptions:
    """No options."""


class _Parts:
    """The parts themselves; `self` is the task that they are given to."""

    Options: ClassVar[type[Any]] = NoOptions
    defaults = Defaults()

    def example(self, item: Any) -> Any:
        """None from Python values unless the task says how."""
        raise InputError(f"predict: this task does not say how {item!r} becomes an example; predict from a file")

    def learn(self, examples: Sequence[Any], *, path: Path, settings: Mapping[str, Any]) -> Any:  # noqa: ARG002
        """Nothing."""
        return self

    def problems(self, examples: Sequence[Any], path: Path) -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def summary(self, example: Any, prediction: Prediction) -> tuple[str, str, str]:
        """The example's text, the prediction's first value, its score."""
        first = next(iter(prediction.values()), "")
        score = prediction.get("score")
        return str(getattr(example, "text", example)), str(first), f"{score:.3f}" if isinstance(score, float) else ""

    def tuned(self, logits: Logits, features: Features, examples: Sequence[Any]) -> Any:  # noqa: ARG002
        """Nothing is tuned on validation data."""
        return self

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """When `huggingface`, as it is here, kept a head of a task of this name that learnt the same, in this form."""
        kept, own = (json.dumps(meaning, sort_keys=True) for meaning in (settings.get(_MEANING), _meaning(self)))
        return settings.get(KIND) == self.name and kept == own  # type: ignore[attr-defined]  # as text: 1 is not True

    def huggingface(self) -> HuggingFaceHead:
        """The head's tensors under `head.`, beside an encoder that `AutoModel` loads."""
        with torch.device("meta"):
            names = list(self.new_head(EncoderConfig(vocab_size=1)).state_dict())  # type: ignore[attr-defined]
        settings = {KIND: self.name, _MEANING: _meaning(self)}  # type: ignore[attr-defined]
        return HuggingFaceHead("Model", [Rename(name, (f"head.{name}",)) for name in names], settings)

    def with_options(self, options: Any) -> Any:
        """With other options. Raises InputError for one that decides the model's form."""
        refuse_changed(self.options, options)  # type: ignore[attr-defined]
        return dataclasses.replace(self, options=options)  # type: ignore[type-var]

    def to_json(self) -> dict[str, Any]:
        """Name, options, and every other field."""
        fields = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        learnt = {name: getattr(self, name) for name in fields if name not in _NOT_LEARNT}
        options = dataclasses.asdict(self.options)  # type: ignore[attr-defined]
        return {"name": self.name, "options": options, **learnt}  # type: ignore[attr-defined]

    def restored(self, state: Mapping[str, Any]) -> Any:
        """With the fields that `to_json` kept."""
        fields = [field.name for field in dataclasses.fields(self)]  # type: ignore[arg-type]
        learnt = {name: _as_tuple(state[name]) for name in fields if name in state and name not in _NOT_LEARNT}
        return dataclasses.replace(self, **learnt)  # type: ignore[type-var]


OPTIONAL = tuple(name for name in vars(_Parts) if not name.startswith("__"))
"""Names that `complete` fills in."""


def _meaning(task: Any) -> dict[str, Any]:
    """What a head's outputs stand for, beyond their number: what was learnt, and options that decide the form.

    Floats that were learnt (thresholds, means), alone or in lists, differ from data to data and leave a head as good a
    start as before; None and an empty list are such numbers that are not there yet. All else may say what an output
    stands for, whole numbers and names in mappings too.

    Returns: as JSON gives it back.
    """
    form = [field.name for field in dataclasses.fields(task.options) if field.metadata.get("fixed")]
    learnt = _through_json(task.to_json())
    return {
        "options": _through_json({name: getattr(task.options, name) for name in form}),
        "learnt": {
            name: value
            for name, value in learnt.items()
            if name not in _NOT_LEARNT and value is not None and not _is_floats(value)
        },
    }


def _is_floats(value: Any) -> bool:
    """Whether a value is a float, or a list, of any depth, of nothing but floats."""
    return all(map(_is_floats, value)) if isinstance(value, list) else isinstance(value, float)


def _through_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples become lists, and keys text."""
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(part) for part in value) if isinstance(value, list) else value
