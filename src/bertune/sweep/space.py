"""Which hyper-parameters a sweep tries: a default space for the task, its rows and the encoder's width, or a YAML file.

The default ranges follow the search spaces that were published with BERT, its miniatures and ELECTRA (learning rates
rise as encoders become narrower; Turc et al., 2019, and Clark et al., 2020).
"""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.errors import InputError, Problems
from bertune.files.yaml_files import read_yaml
from bertune.option_values import checked_values
from bertune.tasks.protocol import Defaults
from bertune.training.options import TrainOptions, passes_of_update

if TYPE_CHECKING:
    from optuna.trial import Trial

NAMES = (
    "learning_rate", "epochs", "batch_size", "warmup_ratio", "weight_decay", "max_grad_norm", "layer_decay",
    "frozen_layers", "reinitialize_layers", "ema", "average_last", "r_drop", "fgm", "freelb", "seed",
    "encoder",
)  # fmt: skip
"""Options of `bertune train` that a sweep may vary: none of them changes the tokenized data of an encoder."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`; log: drawn evenly in their logarithm; whole: integers only."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def suggest(self, trial: "Trial", name: str) -> Any:
        """A value for a trial."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), log=self.log)
        return trial.suggest_float(name, self.low, self.high, log=self.log)

    @property
    def ends(self) -> tuple[Any, ...]:
        """Both ends, for checks."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Choices:
    """One of these values."""

    values: tuple[Any, ...]

    def suggest(self, trial: "Trial", name: str) -> Any:
        """A value for a trial."""
        return trial.suggest_categorical(name, self.values)

    @property
    def ends(self) -> tuple[Any, ...]:
        """All values, for checks."""
        return self.values


Space = Mapping[str, Range | Choices]


def default_space(rows: int, widths: Sequence[int], layers: int, encoders: Sequence[str] = ()) -> Space:
    """What is tried where no file says otherwise.

    Args:
        rows: training sequences; few rows get more epochs.
        widths: hidden sizes of the encoders; learning rates are multiplied by 768 / width.
        layers: of the shallowest encoder.
        encoders: to compare; one needs no choice.
    """
    scales = [768 / width for width in widths]
    epochs = (3.0, 5.0, 10.0) if rows < 2_000 else (2.0, 3.0, 5.0) if rows < 20_000 else (1.0, 2.0, 3.0)
    space: dict[str, Range | Choices] = {
        "learning_rate": Range(1e-5 * min(scales), 1.5e-4 * max(scales), log=True),
        "epochs": Choices(epochs),
        "batch_size": Choices((8, 16, 32) if rows < 2_000 else (16, 32, 64)),
        "warmup_ratio": Choices((0.06, 0.1)),
        "layer_decay": Choices((1.0, 0.95, 0.9, 0.8)),
        "reinitialize_layers": Choices(tuple(range(min(3, layers // 2 + 1)))),
    }
    return space | ({"encoder": Choices(tuple(encoders))} if len(encoders) > 1 else {})


def read_space(path: Path, encoders: Sequence[str]) -> Space:
    """A space from YAML: `name: [values]`, `name: value`, or `name: {low: …, high: …, log: true}`.

    Raises:
        InputError: unknown names, impossible values; all at once.
    """
    problems, space = Problems(), dict[str, Range | Choices]()
    for key, told in read_yaml(path, "--space").items():
        name = str(key).replace("-", "_")
        if name not in NAMES:
            near = difflib.get_close_matches(name, NAMES, n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(NAMES)}"
            problems.add(f"{path}: a sweep cannot vary {key}{meant}")
            continue
        if name in space:
            problems.add(f"{path}: {name} is named twice; write all its values in one line")
            continue
        try:
            space[name] = _dimension(name, told)
        except InputError as error:
            problems.add(f"{path}: {key}: {error}")
            continue
        problems.extend(f"{path}: {message}" for message in _illegal(name, space[name]))
    problems.extend(f"{path}: {message}" for message in _apart(space))
    problems.raise_if_any()
    if len(encoders) > 1 and "encoder" not in space:
        space["encoder"] = Choices(tuple(encoders))
    if not space:
        raise InputError(f"{path}: names nothing to vary; for example: learning_rate: [2e-5, 5e-5]")
    return space


def _dimension(name: str, told: Any) -> Range | Choices:
    """Raises InputError without the place."""
    if isinstance(told, Mapping):
        if not {"low", "high"} <= set(told) <= {"low", "high", "log"}:
            raise InputError(f"{dict(told)}: a range has low, high and, if wanted, log")
        low, high = _number(name, told["low"]), _number(name, told["high"])
        if name == "encoder" or not isinstance(low, int | float) or not isinstance(high, int | float):
            raise InputError(f"{dict(told)}: a range is of numbers")
        log = told.get("log", False)
        if not isinstance(log, bool):
            raise InputError(f"{dict(told)}: log is true or false")
        if not low < high or (log and low <= 0):
            raise InputError(f"{dict(told)}: low must be below high" + (", and above 0 with log" if log else ""))
        return Range(low, high, log, _whole(name))
    values = told if isinstance(told, list) else [told]
    if not values or any(isinstance(value, list | dict | bool) or value is None for value in values):
        raise InputError(f"{told!r}: expected values like [1, 2], or a range {{low: 1e-5, high: 1e-4, log: true}}")
    return Choices(tuple(dict.fromkeys(_number(name, value) for value in values)))


def passes(setting: Mapping[str, Any]) -> int:
    """How many passes over a batch an update makes with this setting."""
    return passes_of_update(setting.get("r_drop"), setting.get("fgm"), setting.get("freelb"))


def _whole(name: str) -> bool:
    return name in ("batch_size", "frozen_layers", "reinitialize_layers", "average_last", "seed")


def _number(name: str, value: Any) -> Any:
    """YAML reads 1e-4 as text."""
    if name == "encoder":
        return str(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise InputError(f"{value!r} is not a number") from None
    if not math.isfinite(number) or (_whole(name) and number != int(number)):
        raise InputError(f"{value!r}: expected a {'whole' if _whole(name) else 'finite'} number")
    return int(number) if _whole(name) else number


def _illegal(name: str, dimension: Range | Choices) -> list[str]:
    """What `bertune train` would say of these values."""
    found: list[str] = []
    for value in dimension.ends:
        try:
            checked = checked_values(TrainOptions, {name: value})
        except InputError as error:
            found.append(str(error))
            continue
        needed = {"task": "", "encoder": "", "train": "", "output": ""}
        found += TrainOptions(**{**needed, **checked}).problems()
    return found


_ONE_OF = (("ema", "average_last"), ("fgm", "freelb"))
"""Options of which a run can have one; 0 leaves one out."""


def _apart(space: Space) -> list[str]:
    """Options of which a run can have one, but a trial might get both."""
    return [
        f"{one} and {other}: a run can have one of them, and a trial would get both; vary one, or give the other as 0"
        for one, other in _ONE_OF
        if all(name in space and any(space[name].ends) for name in (one, other))
    ]


def starting_points(space: Space, defaults: Defaults, options: TrainOptions) -> list[dict[str, Any]]:
    """Settings to try first: the task's defaults, then 3e-5, batch 32, 3 epochs of google-research/bert's README.

    Each is moved to the nearest values that the space has, for both to be points of it.
    """
    usual = dataclasses.asdict(options) | {
        name: value for name, value in dataclasses.asdict(defaults).items() if name in NAMES
    }
    google = usual | {"learning_rate": 3e-5, "batch_size": 32, "epochs": 3.0}
    points = [{name: _nearest(space[name], setting.get(name)) for name in space} for setting in (usual, google)]
    return points if points[0] != points[1] else points[:1]


def _nearest(dimension: Range | Choices, wanted: Any) -> Any:
    if isinstance(dimension, Range):
        middle = math.sqrt(dimension.low * dimension.high) if dimension.log else (dimension.low + dimension.high) / 2
        value = min(max(wanted if wanted is not None else middle, dimension.low), dimension.high)
        return round(value) if dimension.whole else value
    if wanted in dimension.values or not isinstance(wanted, int | float):
        return wanted if wanted in dimension.values else dimension.values[0]
    return min(dimension.values, key=lambda value: abs(value - wanted))
