"""Options as dataclass fields: each documented once, with its unit, for command line, YAML file and Python alike."""

import dataclasses
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from bertune.errors import InputError, Problems

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")
PRESETS = ("fast", "balanced", "best")
LR_SCHEDULES = ("linear", "cosine", "constant", "polynomial")


def option(default: Any = dataclasses.MISSING, *, help: str, **metadata: Any) -> Any:
    """A dataclass field that the command line shows with this help. Without a default it must be given.

    metadata: `choices`, the legal values; `minimum`, the least legal one, `maximum`, the largest (with `minimum`), or
    `above`, what it must be above; `fixed`, True where a model's form depends on
    it, so that it stays as it was in training; `training`, True where it matters in training alone; `hidden`, True
    where `--help` leaves it out; `value`, what stands for its value there.
    """
    extra = {"help": help, **metadata}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=extra)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=extra)
    return dataclasses.field(default=default, metadata=extra)


_OF_RUNS: dict[str, dict[str, Any]] = {
    "output": {"help": "folder for the model and the run; must not contain another run"},
    "max_steps": {"default": None, "help": "stop after this many steps, whatever --epochs says", "minimum": 1},
    "warmup_ratio": {
        "default": 0.1,
        "help": "share of the steps over which the learning rate rises from 0",
        "minimum": 0,
        "maximum": 1,
    },
    "weight_decay": {
        "default": 0.01,
        "help": "weight decay (AdamW); biases and normalisation weights are not decayed",
        "minimum": 0,
    },
    "max_grad_norm": {"default": 1.0, "help": "clip gradients to this norm; 0: no clipping", "minimum": 0},
    "gradient_accumulation": {
        "default": 1,
        "help": "compute each batch in this many parts, to save memory",
        "minimum": 1,
    },
    "activation_checkpointing": {
        "default": False,
        "help": "recompute activations in the backward pass, to save memory",
    },
    "patience": {"default": None, "help": "stop after this many evaluations without improvement", "minimum": 1},
    "max_skipped": {
        "default": 10,
        "help": "stop after this many steps in a row whose loss or gradient is not finite",
        "minimum": 1,
    },
    "precision": {"default": "auto", "help": "floating-point format of the computation", "choices": PRECISIONS},
    "device": {"default": "auto", "help": "device to compute on", "choices": DEVICES},
    "resume": {"default": False, "help": "continue the run in the output folder"},
    "checkpoint_every": {
        "default": None,
        "help": "steps between checkpoints for --resume, besides those after evaluations",
        "minimum": 1,
    },
    "keep_checkpoints": {
        "default": 2,
        "help": "number of checkpoints to keep, newest first; an older one is used if the newest is damaged",
        "minimum": 1,
    },
}


def run_option(name: str) -> Any:
    """An option that every run has, fine-tuning or pre-training, by its name: written once, placed by each."""
    return option(**_OF_RUNS[name])


def keyword_problems(function: str, given: Collection[str], known: Iterable[str], needed: Iterable[str]) -> None:
    """Check the keywords of a call against the options it takes.

    Args:
        function: that was called.
        given: keywords.
        known: options that there are.
        needed: those without a default.

    Raises:
        InputError: unknown keywords, or missing ones.
    """
    if strange := sorted(set(given) - set(known)):
        import difflib

        near = {name: difflib.get_close_matches(name, known, n=1) for name in strange}
        meant = ", ".join(f"{name} (did you mean {found[0]}?)" if found else name for name, found in near.items())
        raise InputError(f"{function}: no option {meant}; known: {', '.join(sorted(known))}")
    if absent := set(needed) - set(given):
        raise InputError(f"{function}: needs {', '.join(sorted(absent))}")


def refuse_changed(trained: Any, wanted: Any) -> None:
    """Refuse other values of options that are `fixed`.

    Args:
        trained: a dataclass of options, as the model was trained.
        wanted: the same dataclass, as it shall be used.

    Raises:
        InputError: naming every such option and both values.
    """
    problems = Problems()
    for field in dataclasses.fields(trained):
        old, new = getattr(trained, field.name), getattr(wanted, field.name)
        if field.metadata.get("fixed") and old != new:
            problems.add(f"--{field.name.replace('_', '-')} {new}: the model was trained with {old}")
    problems.raise_if_any()


@dataclass(frozen=True)
class AdamWOptions:
    """Numbers of Adam with decoupled weight decay (Loshchilov & Hutter, 2019)."""

    beta1: float = option(0.9, help="decay rate of the mean of gradients")
    beta2: float = option(0.999, help="decay rate of the mean of squared gradients")
    eps: float = option(1e-8, help="added to the root of the mean of squares")
    weight_decay: float = option(0.01, help="share of a weight lost a step, times the learning rate")
    bias_correction: bool = option(True, help="Adam's bias correction")
    max_grad_norm: float = option(1.0, help="clip gradients to this global norm; 0: no clipping")
