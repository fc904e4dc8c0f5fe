"""Options of `bertune sweep`."""

from dataclasses import dataclass

from bertune.durations import seconds_of
from bertune.options import DEVICES, PRECISIONS, option


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of `bertune sweep`; those of the task come besides."""

    task: str = option(help="what to train for, such as text-classification, or path/to/file.py:Class")
    encoder: str = option(
        help="pretrained encoder to start from, as for bertune train; several, separated by commas, are compared"
    )
    train: str | list[str] = option(  # noqa: RUF009
        help="training data: files, a folder, or a pattern such as 'parts/*.csv'"
    )
    validation: str | list[str] = option(help="validation data, in the same forms; trials are compared on it")  # noqa: RUF009
    output: str = option(help="folder for the sweep and its best model; must not contain another run")
    time_limit: str = option(help="time limit for everything, the final runs included: 90s, 30m, 2h, 1h30m")
    trials: int | None = option(None, help="at most this many trials (default: as many as fit)", minimum=1)
    space: str | None = option(
        None, help="YAML file with the values to try (default: a space for the task and encoder)"
    )
    final_seeds: int = option(3, help="number of new seeds with which the winner is trained at the end", minimum=2)
    seed: int = option(
        42, help="seed of the choice of trials, and of each trial's weights, data order and dropout", minimum=0
    )
    metric: str | None = option(None, help="metric to compare trials by (default: the task's own)")
    max_seq_length: int | None = option(None, help="longest sequence in tokens, special tokens included", minimum=3)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    feature_cache: bool = option(True, help="cache the tokens of large files for the next run")
    resume: bool = option(False, help="continue the sweep in the output folder; the time it used before counts")

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders to compare."""
        return tuple(dict.fromkeys(part.strip() for part in self.encoder.split(",") if part.strip()))

    @property
    def seconds(self) -> float:
        """The time limit. Raises InputError where it is no duration."""
        return seconds_of(self.time_limit)
