"""Options of `bertune sweep`."""

import re
from dataclasses import dataclass

from bertune.errors import InputError
from bertune.options import DEVICES, PRECISIONS, option

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhd])+")


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of `bertune sweep`; those of the task come besides."""

    task: str = option(help="what to train for: a task's name")
    encoder: str = option(help="where to start, as for bertune train; several, separated by commas, are compared")
    train: str = option(help="training data")
    validation: str = option(help="validation data; trials are compared by it")
    output: str = option(help="folder for the sweep and its best model; must not hold another run")
    time_limit: str = option(help="time for everything, the final runs included: 90s, 30m, 2h, 1h30m")
    trials: int | None = option(None, help="at most this many trials (default: as many as fit)", minimum=1)
    space: str | None = option(
        None, help="YAML file with the values to try (default: a space for the task and encoder)"
    )
    final_seeds: int = option(3, help="fresh seeds that the winner is trained with at the end", minimum=2)
    seed: int = option(42, help="governs what is tried, and each trial's weights, order and dropout", minimum=0)
    metric: str | None = option(None, help="metric that trials are compared by (default: the task's own)")
    max_seq_length: int | None = option(None, help="longest sequence in tokens, special tokens included", minimum=3)
    precision: str = option("auto", help="numbers to compute in", choices=PRECISIONS)
    device: str = option("auto", help="where to compute", choices=DEVICES)
    feature_cache: bool = option(True, help="keep the tokens of large files for the next run")
    resume: bool = option(False, help="go on with the sweep in the output folder; its earlier time counts")

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders to compare."""
        return tuple(part.strip() for part in self.encoder.split(",") if part.strip())

    @property
    def seconds(self) -> float:
        """The time limit. Raises InputError where it is no duration."""
        return seconds_of(self.time_limit)


def seconds_of(text: str) -> float:
    """A duration such as `90s`, `30m`, `1h30m`, or a plain number of seconds.

    Raises:
        InputError: anything else, or nothing above zero.
    """
    plain = text.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", plain):
        total = float(plain)
    elif _DURATION.fullmatch(plain):
        total = sum(float(number) * _UNITS[unit] for number, unit in re.findall(r"([\d.]+)([smhd])", plain))
    else:
        total = 0.0
    if total <= 0:
        raise InputError(f"--time-limit {text}: expected a duration above zero, like 90s, 30m, 2h or 1h30m")
    return total


def duration(seconds: float) -> str:
    """Seconds as people read them: 45 s, 12 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"
