"""The base class of tasks: the parts of the protocol that have an answer for most tasks."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, cast

import numpy as np

from bertune.checkpoints.names import KIND, Rename
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.features import Features
from bertune.options import refuse_changed
from bertune.tasks.calibration import CalibrationRows
from bertune.tasks.protocol import Baseline, Defaults, ExampleT, HuggingFaceHead, Logits, Prediction
from bertune.tasks.row_metrics import RowMetrics
from bertune.tasks.shared.texts import by_example

if TYPE_CHECKING:
    from torch import Tensor

    from bertune.tasks.protocol import Task as _Protocol
else:  # a protocol's properties would be taken for the default values of a dataclass's fields

    class _Protocol(Generic[ExampleT]):
        """What type checkers see here is `Task`: they name every method that a task lacks."""


_NOT_LEARNT = ("name", "options", "metric", "defaults")
OLD_NAMES = {"learn": "fit"}
"""Methods of a task under the names that version 0.1.0 gave them, and their names now."""
_MEANING = "bertune_head_meaning"
"""Key of config.json for what a head's outputs stand for, so that no other task takes them for its own."""


@dataclass(frozen=True)
class NoOptions:
    """No options."""


class BaseTask(_Protocol[ExampleT]):
    """A task that leaves out what it can.

    A subclass is a frozen dataclass whose first two fields are `name` and `options`. The other fields are what it
    fits to data, of values that JSON can hold (lists come back as tuples), besides `metric` and `defaults`. It must
    define `read`, `featurize`, `new_head`, `loss`, `decode`, and `row_metrics` or `metrics`.
    """

    Options: ClassVar[type[Any]] = NoOptions
    compares_rows: ClassVar[bool] = False
    logit_kind: ClassVar[str | None] = None
    """What the head's logits stand for, for distillation: classes, labels (independent of one another), number, vector,
    tags (of tokens), span (start and end among tokens), choices; None: it is not known."""
    metric_names: ClassVar[tuple[str, ...]] = ()
    """Of bertune's own tasks: what can pick the best model besides the loss; after one that ends in / goes a label."""

    if not TYPE_CHECKING:
        defaults = Defaults()

        def __init_subclass__(cls, **options: Any) -> None:
            """`fit` was called `learn` in version 0.1.0; task files that models are bound to may define it by that."""
            super().__init_subclass__(**options)
            for old, new in OLD_NAMES.items():
                owner = next(kind for kind in cls.__mro__ if {old, new} & vars(kind).keys())
                if new not in vars(owner):
                    setattr(cls, new, vars(owner)[old])

    def example(self, item: Any) -> ExampleT:
        """Refuses every Python value: a task must say how one becomes an example."""
        raise InputError(f"predict: this task does not say how {item!r} becomes an example; predict from a file")

    def fit(self, examples: Sequence[ExampleT], *, path: Path, settings: Mapping[str, Any]) -> Self:  # noqa: ARG002
        """The task itself: nothing is fitted to the training data."""
        return self

    def least_batch_size(self) -> int:
        """One."""
        return 1

    def problems(self, examples: Sequence[ExampleT], path: Path) -> list[str]:  # noqa: ARG002
        """None."""
        return []

    def summary(self, example: ExampleT, prediction: Prediction) -> tuple[str, str, str]:
        """The example's text, the prediction's first value, its score."""
        first = next(iter(prediction.values()), "")
        score = prediction.get("score")
        return str(getattr(example, "text", example)), str(first), f"{score:.3f}" if isinstance(score, float) else ""

    def metric_settings(self, examples: Sequence[ExampleT]) -> Mapping[str, str]:  # noqa: ARG002
        """None: the metrics are defined in one way."""
        return {}

    def row_metrics(self, examples: Sequence[ExampleT], predictions: Sequence[Prediction]) -> RowMetrics | None:  # noqa: ARG002
        """None: only `metrics` can tell."""
        return None

    def metrics(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> dict[str, float]:
        """Those of `row_metrics`, which a task without `metrics` of its own must have."""
        rows = self.row_metrics(examples, self.decode(logits, features, examples))
        if rows is None:
            raise NotImplementedError(f"{type(self).__name__} has neither metrics nor row_metrics")
        return rows.metrics()

    def diagnostics(
        self,
        logits: Logits,  # noqa: ARG002
        features: Features,  # noqa: ARG002
        examples: Sequence[ExampleT],  # noqa: ARG002
    ) -> Mapping[str, Any]:
        """None."""
        return {}

    def averaging(self) -> str:
        """Nothing: the metrics' names say it."""
        return ""

    def baselines(self) -> Mapping[str, Baseline]:
        """None."""
        return {}

    def feature_key(self) -> Mapping[str, Any] | None:
        """None: what `featurize` depends on is not known."""
        return None

    def true_answer(self, example: ExampleT) -> Any:
        """The first of the attributes label, value, labels, entities, answer, answers; None without any."""
        for name in ("label", "value", "labels", "entities", "answer"):
            if hasattr(example, name):
                return getattr(example, name)
        answers = getattr(example, "answers", None)
        return None if answers is None else tuple(answer.text for answer in answers)

    def evidence(self, logits: "Tensor", label: str | None) -> "Tensor":  # noqa: ARG002
        """Refused: only tasks with a label or a number for a whole text can be explained by its words.

        Shape: logits (rows, labels); an override returns one value per row, (rows).

        Raises:
            InputError: always, unless a task overrides it.
        """
        raise InputError(f"explain: models for {self.name} cannot be explained; classification and regression can")

    def predicted_answer(self, prediction: Prediction) -> str | int | float | frozenset[Any] | None:
        """What stands under entities, labels, label or answer, or the score of a prediction that has nothing else."""
        if "entities" in prediction:
            return frozenset((one["label"], one["start"], one["end"]) for one in prediction["entities"])
        if "labels" in prediction:
            return frozenset(prediction["labels"])
        for name in ("label", "answer"):
            if name in prediction:
                found: str | int = prediction[name]
                return found
        return float(prediction["score"]) if prediction.keys() == {"score"} else None

    def tuned(self, logits: Logits, features: Features, examples: Sequence[ExampleT]) -> Self:  # noqa: ARG002
        """The task itself: nothing is tuned on validation data."""
        return self

    def calibration_rows(
        self, logits: Logits, features: Features, examples: Sequence[ExampleT]
    ) -> CalibrationRows | None:
        """Every example's logits and the place of its true answer among `labels`, where `logit_kind` is classes.

        None where it is not, where there are no `labels`, one for every logit, or a true answer is none of them.
        """
        labels = getattr(self, "labels", ())
        if self.logit_kind != "classes" or not examples or any(row.shape != (len(labels),) for row in logits):
            return None
        index = {str(label): i for i, label in enumerate(labels)}
        truth = [index.get(str(self.true_answer(example)), -1) for example in examples]
        if min(truth) < 0:
            return None
        return CalibrationRows(by_example(logits, features, len(examples)), np.array(truth, np.int64))

    def keeps_head(self, settings: Mapping[str, Any]) -> bool:
        """Whether `huggingface` below wrote the head, for a task of this name, form, and learnt values.

        A task with a `huggingface` of its own has to say for itself what it takes over: here its heads begin anew.
        """
        kept, own = (json.dumps(meaning, sort_keys=True) for meaning in (settings.get(_MEANING), _meaning(self)))
        return settings.get(KIND) == self.name and kept == own  # as text: 1 is not True

    def huggingface(self) -> HuggingFaceHead:
        """The head's tensors under `head.`, beside an encoder that `AutoModel` loads."""
        import torch

        with torch.device("meta"):
            names = list(self.new_head(EncoderConfig(vocab_size=1)).state_dict())
        settings = {KIND: self.name, _MEANING: _meaning(self)}
        return HuggingFaceHead("Model", [Rename(name, (f"head.{name}",)) for name in names], settings)

    def with_options(self, options: Any) -> Self:
        """The same task under other options. Raises InputError for one that decides the model's form."""
        refuse_changed(self.options, options)
        return self._replaced(options=options)

    def to_json(self) -> dict[str, Any]:
        """Name, options, and every field of what was learnt."""
        learnt = {name: getattr(self, name) for name in self._fields() if name not in _NOT_LEARNT}
        return {"name": self.name, "options": dataclasses.asdict(self.options), **learnt}

    def restored(self, state: Mapping[str, Any]) -> Self:
        """The task with the fields that `to_json` kept."""
        learnt = [name for name in self._fields() if name in state and name not in _NOT_LEARNT]
        return self._replaced(**{name: _as_tuple(state[name]) for name in learnt})

    def _described_without(self, *names: str) -> dict[str, Any]:
        """What `to_json` says of the task, without these fields and options."""
        described = self.to_json()
        options = {name: value for name, value in described.pop("options").items() if name not in names}
        return {name: value for name, value in described.items() if name not in names} | {"options": options}

    def _fields(self) -> list[str]:
        return [field.name for field in dataclasses.fields(cast(Any, self))]

    def _replaced(self, **changes: Any) -> Self:
        return cast(Self, dataclasses.replace(cast(Any, self), **changes))


OPTIONAL = tuple(name for name in vars(BaseTask) if not name.startswith("_"))
"""The parts of the protocol that a task may leave out."""


def _meaning(task: BaseTask[Any]) -> dict[str, Any]:
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
    """The value as JSON gives it back: tuples become lists, and keys text."""
    found: dict[str, Any] = json.loads(json.dumps(value))
    return found


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(part) for part in value) if isinstance(value, list) else value
