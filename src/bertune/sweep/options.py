"""Options of `bertune sweep`."""

from dataclasses import dataclass

from bertune.durations import seconds_of
from bertune.options import DEVICES, PRECISIONS, option


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Options of `bertune sweep`; those of the task come besides."""

    task: str = option(help="what to train for: a task's name")
    encoder: str = option(help="where to start, as for bertune train; several, separated by commas, are compared")
    train: str | list[str] = option(  # noqa: RUF009
        help="training data: files, a folder, or a pattern such as 'parts/*.csv'"
    )
    validation: str | list[str] = option(help="validation data, named likewise; trials are compared by it")  # noqa: RUF009
    output: str = option(help="folder for the sweep and its best model; must not hold another run")
    time_limit: str = option(help="time for everything, the final runs included: 90s, 30m, 2h, 1h30m")
    trials: int | None = option(None, help="at most this many trials (default: as many as fit)", minimum=1)
    space: str | None = option(
        None, help="YAML file with the values to try (default: a space for the task and encoder)"
    )
    final_seeds: int = option(3, help="fresh seeds that the winner is trained with at the end", minimum=2)
    seed: int = option(42, help="seed of what is tried, and of each trial's weights, order and dropout", minimum=0)
    metric: str | None = option(None, help="metric that trials are compared by (default: the task's own)")
    max_seq_length: int | None = option(None, help="longest sequence in tokens, special tokens included", minimum=3)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    feature_cache: bool = option(True, help="keep the tokens of large files for the next run")
    resume: bool = option(False, help="continue the sweep in the output folder; the time it used before counts")

    @property
    def encoders(self) -> tuple[str, ...]:
        """The encoders to compare."""
        return tuple(dict.fromkeys(part.strip() for part in self.encoder.split(",") if part.strip()))

    @property
    def seconds(self) -> float:
        """The time limit. Raises InputError where it is no duration."""
        return seconds_of(self.time_limit)
