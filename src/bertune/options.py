"""Options as dataclass fields: each documented once, with its unit, for command line, YAML file and Python alike."""

import dataclasses
from typing import Any

from bertune.errors import Problems

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")


def option(default: Any = dataclasses.MISSING, *, help: str, **metadata: Any) -> Any:
    """A dataclass field that the command line shows with this help. Without a default it must be given.

    metadata: `choices`, the legal values; `minimum`, the least legal one; `fixed`, True where a model's form depends on
    it, so that it stays as it was in training.
    """
    extra = {"help": help, **metadata}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=extra)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=extra)
    return dataclasses.field(default=default, metadata=extra)


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
