"""`--threshold`, `--automate-at` and `--interval` of a service: how a model's answers stand, as in `predict`."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from bertune.errors import InputError, Problems
from bertune.model.predicting import Predictor, label_names

RULES = ("threshold", "automate_at", "interval")
"""Options of tasks that a service may set."""


@dataclass(frozen=True)
class AnswerRules:
    """Options of `predict` for the models of a service; each part is for all models, or `MODEL:PART` for one.

    A model that parts name by its name is not touched by the parts for all.

    threshold: `NUMBER`, `LABEL=NUMBER`, `MODEL:NUMBER` or `MODEL:LABEL=NUMBER`. `LABEL=NUMBER` is for the models that
        have this label.
    automate_at, interval: `NUMBER` or `MODEL:NUMBER`.
    """

    threshold: Sequence[str] = ()
    automate_at: Sequence[str] = ()
    interval: Sequence[str] = ()

    def applied(self, name: str, model: Predictor, names: Iterable[str]) -> Predictor:
        """The model with its task's options changed as said.

        Args:
            name: under which it is served.
            model: as it was loaded.
            names: of all models of the service.

        Raises:
            InputError: a part for this model that its task cannot take.
        """
        changes: dict[str, Any] = {}
        known = {field.name for field in dataclasses.fields(model.task.options)}
        for option in RULES:
            own, common = self._parts(option, name, names)
            if own and option not in known:
                raise InputError(
                    f"--{_typed(option)} {name}:{own[0]}: the model's task, {model.task.name}, has no such option"
                )
            parts = own or [part for part in common if option in known and _concerns(part, model)]
            if parts:
                changes[option] = parts if option == "threshold" else _share(option, parts, name if own else None)
        if not changes:
            return model
        task = model.task.with_options(dataclasses.replace(model.task.options, **changes))
        return cast("Predictor", dataclasses.replace(cast("Any", model), task=task))

    def check_used(self, models: Sequence[tuple[str, Predictor]]) -> None:
        """Refuse parts that concern none of the models, such as a label that none of them has.

        models: all of the service, with their names.

        Raises:
            InputError: naming all of these parts.
        """
        problems, names = Problems(), [name for name, _ in models]
        for option in RULES:
            takers = [
                model for _, model in models
                if option in {field.name for field in dataclasses.fields(model.task.options)}
            ]  # fmt: skip
            for part in getattr(self, option):
                if _model_of(part, names) is None and not any(_concerns(part, model) for model in takers):
                    labels = dict.fromkeys(label for model in takers for label in label_names(model.task))
                    known = f"; known labels: {', '.join(labels)}" if labels and "=" in part else ""
                    problems.add(f"--{_typed(option)} {part}: concerns none of the models {', '.join(names)}{known}")
        problems.raise_if_any()

    def _parts(self, option: str, name: str, names: Iterable[str]) -> tuple[list[str], list[str]]:
        """The parts for one model by name, without the name, and those for all."""
        owners = [(part, _model_of(part, names)) for part in getattr(self, option)]
        own = [part[len(name) + 1 :] for part, owner in owners if owner == name]
        return own, [part for part, owner in owners if owner is None]


def rules_in_use(model: Predictor) -> dict[str, Any]:
    """These options of a model's task, where they are set: as the service, or the model itself, has them."""
    found = {name: getattr(model.task.options, name, None) for name in RULES}
    return {name: value for name, value in found.items() if value is not None}


def _model_of(part: str, names: Iterable[str]) -> str | None:
    """The model that a part names; a label may hold a colon too."""
    name, colon, _ = part.partition(":")
    return name if colon and name in names else None


def _concerns(part: str, model: Predictor) -> bool:
    """Whether a part for all models is for this one: a label's is for those that have the label."""
    label, equals, _ = part.rpartition("=")
    return not equals or label in label_names(model.task)


def _share(option: str, parts: Sequence[str], name: str | None) -> float:
    """The one number of `--automate-at` or `--interval`.

    Raises:
        InputError: several, or none from 0 to 1.
    """
    prefix, typed = f"{name}:" if name else "", f"--{_typed(option)}"
    if len(parts) > 1:
        raise InputError(f"{typed} {' '.join(prefix + part for part in parts)}: one number a model")
    try:
        share = float(parts[0])
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"{typed} {prefix}{parts[0]}: must be a number from 0 to 1, or MODEL:NUMBER")
    return share


def _typed(option: str) -> str:
    return option.replace("_", "-")
