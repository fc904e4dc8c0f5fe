"""Options as dataclass fields: each documented once, with its unit, for command line, YAML file and Python alike."""

import dataclasses
from typing import Any

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "bf16", "fp16", "fp32")


def option(default: Any = dataclasses.MISSING, *, help: str, **metadata: Any) -> Any:
    """A dataclass field that the command line shows with this help. Without a default it must be given.

    metadata: `choices`, the legal values.
    """
    extra = {"help": help, **metadata}
    if isinstance(default, list):
        return dataclasses.field(default_factory=lambda: list(default), metadata=extra)
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=extra)
    return dataclasses.field(default=default, metadata=extra)
