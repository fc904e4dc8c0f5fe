"""What families with rotary positions share: the rotation's base in config.json, old and new."""

from collections.abc import Mapping
from typing import Any

from bertune.checkpoints.families.family import must_be
from bertune.errors import InputError


def rotary_base(settings: Mapping[str, Any], default: float, where: str, *older: str) -> float:
    """The base of rotary positions.

    Args:
        settings: all of config.json.
        default: what the family's class takes where nothing is said.
        where: the file.
        older: keys that held it before transformers 5's `rope_parameters`.

    Raises:
        InputError: angles are scaled (`ntk`, `yarn`, …), which the encoder does not do.
    """
    scaling = settings.get("rope_scaling")
    if scaling:
        raise InputError(
            f"{where}: rope_scaling is {scaling!r}; scaled rotary positions are not supported. Take a checkpoint "
            "without them, such as one that transformers 5 has saved with rope_parameters of rope_type default"
        )
    found = settings.get("rope_parameters") or {}
    must_be(found, "rope_type", "default", f"{where}, rope_parameters")
    base = found.get("rope_theta", next((settings[key] for key in older if key in settings), default))
    return float(base)


def rotary_json(base: float) -> dict[str, Any]:
    """The base as transformers 5 and, by the second key, earlier programs read it."""
    return {"rope_parameters": {"rope_type": "default", "rope_theta": base}, "rope_theta": base}
