"""`--preset fast|balanced|best`: options for the time that one wants to spend, where they are not given themselves.

What is in `best` paid in `benchmarks.techniques` (docs/techniques.md has the table) or in what benchmarks/LOG.md tells;
what did not is an option only.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertune.checkpoints.source import open_checkpoint
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError
from bertune.files.yaml_files import read_yaml
from bertune.options import PRESETS
from bertune.tasks.options import RegressionOptions, TextOptions
from bertune.tasks.protocol import Defaults
from bertune.tasks.registry import new_task
from bertune.tasks.user_files import is_own
from bertune.training.options import NOT_WITH_SOUP, TrainOptions

logger = logging.getLogger(__name__)

_FULL_WIDTH = 768
"""Hidden size of the encoders that the tasks' learning rates are for; narrower ones want higher rates."""
_MOST = 2.0
"""Times the task's learning rate, at most."""
PATIENCE = 3
"""Evaluations without improvement that `best` waits for."""
_BATCH = 16
"""Sequences an update of `best`: twice as many updates a pass as with the tasks' 32, which paid (benchmarks/LOG.md)."""
_SET = ("epochs", "batch_size", "learning_rate", "reinitialize_layers", "patience", "soup")
"""What presets may set."""
_DEEP = 6
"""Layers from which on the highest may begin anew."""


def preset_options(
    name: str,
    defaults: Defaults,
    config: EncoderConfig,
    *,
    validates: bool,
    limited: bool = False,
    averages: bool = False,
    compares: bool = False,
) -> dict[str, Any]:
    """The options that a preset sets.

    Args:
        name: of the preset.
        defaults: of the task; `balanced` is what they are.
        config: of the encoder.
        validates: whether there is validation data, by which a run may stop early.
        limited: whether time is.
        averages: whether what a run leaves of it may go into further ones.
        compares: whether the loss compares the examples of a batch, so that larger ones teach more.
    """
    if name == "balanced":
        return {}
    width = min(_MOST, max(1.0, _FULL_WIDTH / config.hidden_size))
    rate = {"learning_rate": defaults.learning_rate * width} if width > 1 else {}
    if name == "fast":
        return {"epochs": max(1.0, defaults.epochs / 3), **rate}
    deep = config.stored_layers == config.num_hidden_layers >= _DEEP
    # a limit is for being used: runs within it go on to their last step, where the learning rate is zero
    end: dict[str, Any] = {} if limited else {"patience": PATIENCE}
    end |= {"soup": "auto"} if limited and averages else {}
    return {
        "epochs": 3 * defaults.epochs,
        **({"batch_size": _BATCH} if defaults.batch_size > _BATCH and not compares else {}),
        **rate,
        **({"reinitialize_layers": 1} if deep else {}),
        **(end if validates else {}),
    }


def with_preset_of_task(options: TrainOptions, task_options: Mapping[str, Any]) -> dict[str, Any]:
    """The task's own options with those that the preset sets, where they do not say themselves; logged.

    `best` lets heads on whole texts choose what they read, `--pooling auto`. A run that an earlier release began keeps
    what it had.
    """
    found, task = dict(task_options), new_task(options.task, task_options)
    chooses = isinstance(task.options, TextOptions | RegressionOptions) and is_own(task)
    if options.preset != "best" or not chooses or found.get("pooling") or task.options.layers != "last":
        return found
    begun = Path(options.output) / "run.yaml"
    if options.resume and begun.is_file() and "pooling" not in read_yaml(begun):
        return found
    logger.info("--preset best: --pooling auto")
    return {**found, "pooling": "auto"}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def said_option(options: TrainOptions, name: str) -> str:
    """`--patience` or `--soup` as messages name it: by the preset that sets it, where one does."""
    value, sets = getattr(options, name), {"patience": PATIENCE, "soup": "auto"}
    if options.preset == "best" and value == sets[name]:
        return f"--preset best (with --{name} {value}, which it sets)"
    return f"--{name}"


def _of_run_to_resume(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a run that goes on has where the preset decides: an earlier version of the preset may have set other values.

    Raises:
        InputError: a run.yaml that cannot be read.
    """
    begun = Path(str(values.get("output"))) / "run.yaml"
    before = read_yaml(begun) if values.get("resume") and begun.is_file() else {}
    return {name: before[name] for name in _SET if name in before} if before.get("preset") == values["preset"] else {}


def with_preset(values: Mapping[str, Any], task_options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those that their preset sets, where they do not say themselves; logged.

    Args:
        values: what was given of `TrainOptions`.
        task_options: what was given of the task's own.

    Raises:
        InputError: no such preset; an encoder or task that cannot be read.
    """
    name = values.get("preset")
    if name is None:
        return dict(values)
    if name not in PRESETS:
        raise InputError(f"--preset {name}: must be one of {', '.join(PRESETS)}")
    with open_checkpoint(str(values["encoder"])) as checkpoint:
        config = checkpoint.config
    task = new_task(str(values["task"]), task_options)
    validates = values.get("folds") is None and values.get("validation_share") != 0
    found = preset_options(
        name, task.defaults, config, validates=validates, limited=values.get("time_limit") is not None,
        averages=not any(values.get(other) for other in NOT_WITH_SOUP), compares=task.compares_rows,
    )  # fmt: skip
    found = _of_run_to_resume(values) or found
    taken = {option: value for option, value in found.items() if values.get(option) is None}
    kept = [f"--{option.replace('_', '-')} {values[option]}" for option in found if option not in taken]
    told = {option: value for option, value in taken.items() if value is not None}
    shown = ", ".join(f"--{option.replace('_', '-')} {_shown(value)}" for option, value in told.items())
    logger.info(
        "--preset %s: %s%s", name, shown or "the task's own defaults",
        f"; as given: {', '.join(kept)}" if kept else "",
    )  # fmt: skip
    return {**taken, **{option: value for option, value in values.items() if value is not None or option not in taken}}
