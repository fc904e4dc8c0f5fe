"""From options to the numbers of the loop, and the checks that every run begins with."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from bertune.distributed.world import current, is_restart
from bertune.errors import InputError, Problems
from bertune.training.loop.optimizer import Schedule
from bertune.training.loop.state import TrainConfig
from bertune.training.loop.validation import steps_per_epoch
from bertune.training.run_folder.output import output_problems

ReadT = TypeVar("ReadT")


class RunOptions(Protocol):
    """Options that `train` and `pretrain` share."""

    @property
    def output(self) -> str: ...
    @property
    def resume(self) -> bool: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_steps(self) -> int | None: ...
    @property
    def warmup_ratio(self) -> float: ...
    @property
    def lr_schedule(self) -> str | None: ...
    @property
    def gradient_accumulation(self) -> int: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def checkpoint_every(self) -> int | None: ...
    @property
    def max_skipped(self) -> int: ...

    def problems(self) -> list[str]:
        """What no run can start with."""
        ...


def train_config(  # noqa: PLR0913 (named numbers that only the caller knows)
    options: RunOptions,
    *,
    sequences: int,
    batch_size: int,
    epochs: float,
    learning_rate: float,
    metric: str | None,
    seed: int | None = None,
    evaluations: int | None = None,
    evaluate_every: int | None = None,
) -> TrainConfig:
    """The numbers of a run.

    Args:
        options: of the run.
        sequences: to train on.
        batch_size: sequences an update.
        epochs: passes over them, where the options name no steps.
        learning_rate: the highest.
        metric: picks the best model; None without validation.
        seed: instead of the options'.
        evaluations: in the whole run, where `evaluate_every` is None; None: one an epoch.
        evaluate_every: updates from one evaluation to the next.
    """
    steps = options.max_steps or max(1, math.ceil(steps_per_epoch(sequences, batch_size) * epochs))
    if evaluate_every is None and evaluations is not None:
        evaluate_every = max(1, math.ceil(steps / evaluations))
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        accumulation=options.gradient_accumulation,
        seed=options.seed if seed is None else seed,
        schedule=Schedule(
            learning_rate, steps, int(steps * options.warmup_ratio), decay=options.lr_schedule or "linear"
        ),
        patience=options.patience,
        metric=metric,
        check_every=evaluate_every,
        checkpoint_every=options.checkpoint_every,
        max_skipped=options.max_skipped,
    )


def resumes(options: RunOptions) -> bool:
    """Whether the run in the output folder is to be gone on with: as asked for, or because torchrun restarted it."""
    return options.resume or (is_restart() and (Path(options.output) / "run.yaml").is_file())


def check_run(
    options: RunOptions,
    tree: Mapping[str, Any],
    read: Mapping[str, Callable[[], ReadT]],
    more: list[str] | None = None,
) -> dict[str, ReadT]:
    """Check options, output folder and data together. Returns: what was read, by its name.

    Args:
        options: of the run.
        tree: the same, as run.yaml has them.
        read: reads a part of the data; all are tried, so that all problems are told at once.
        more: problems that the caller has found.

    Raises:
        InputError: all problems at once.
    """
    problems = Problems()
    problems.extend([*options.problems(), *(more or [])])
    if current().is_first:
        problems.extend(output_problems(Path(options.output), tree, resume=options.resume))
    found = {}
    for name, make in read.items():
        try:
            found[name] = make()
        except InputError as error:
            problems.add(str(error))
    problems.raise_if_any()
    return found
