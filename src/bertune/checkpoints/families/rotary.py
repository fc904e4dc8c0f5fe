"""What families with rotary positions share: base and scale in config.json, and which layers are local."""

from collections.abc import Mapping, Sequence
from typing import Any

from bertune.checkpoints.families.family import Numbers
from bertune.encoder.config import EncoderConfig
from bertune.errors import InputError

LOCAL, GLOBAL = "sliding_attention", "full_attention"
"""Kinds of layers in `layer_types` of config.json."""
_KINDS = "known: default, linear, and in GTE's original form ntk"


def rotary_numbers(settings: Mapping[str, Any], default: float, where: str, *older: str, ntk_size: int = 0) -> Numbers:
    """Base and scale of rotary positions.

    `linear` divides all angles by its factor. `ntk` is the fixed form of GTE's original program: the base times the
    factor, and angles divided by factor^(2 / head size), so that the slowest of them is stretched by the factor and the
    fastest hardly (kexue.fm/archives/9706).

    Args:
        settings: all of config.json.
        default: the base that the family's class takes where nothing is said.
        where: the file.
        older: keys that held the base before transformers 5's `rope_parameters`.
        ntk_size: width of a head where the program knows `ntk`; 0: it does not.

    Raises:
        InputError: angles are scaled in another way.
    """
    scaling = settings.get("rope_scaling") or {}
    found = {**scaling, **(settings.get("rope_parameters") or {})}
    kind = found.get("rope_type", found.get("type", "default"))
    base = float(found.get("rope_theta", next((settings[key] for key in older if key in settings), default)))
    if kind == "default":
        return {"rotary_base": base}
    factor = found.get("factor")
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not factor > 0:
        factor = None
    if kind == "linear" and factor:
        return {"rotary_base": base, "rotary_scale": 1 / factor}
    if kind == "ntk" and factor and ntk_size and found.get("mixed_b") is None:
        stretched = factor > 1  # as in the original, where a factor of at most 1 changes nothing
        return {
            "rotary_base": base * factor if stretched else base,
            "rotary_scale": float(factor ** (-2 / ntk_size)) if stretched else 1.0,
        }
    raise InputError(f"{where}: rotary positions are scaled by {found!r}, which is not supported; {_KINDS}")


def rotary_json(config: EncoderConfig) -> Numbers:
    """The same as transformers 5 and, by the second key, earlier programs read it."""
    rope: Numbers = {"rope_type": "default", "rope_theta": config.rotary_base}
    if config.rotary_scale != 1:
        rope |= {"rope_type": "linear", "factor": 1 / config.rotary_scale}
    return {"rope_parameters": rope, "rope_theta": config.rotary_base}


def global_layers(types: Sequence[str], where: str) -> tuple[int, int]:
    """The first global layer, and how far one is from the next, of `layer_types`.

    Raises:
        InputError: the distances between global layers differ.
    """
    layers = len(types)
    for every in range(1, layers + 2):
        for first in range(every):
            if list(types) == [LOCAL if (i - first) % every else GLOBAL for i in range(layers)]:
                return first, every
    raise InputError(f"{where}: layer_types must have {GLOBAL} at equal distances, and {LOCAL} elsewhere")
