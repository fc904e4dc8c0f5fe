"""Values of options that do not come through the command line's parser: from Python, or from a saved model's JSON."""

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertune.errors import InputError, Problems

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def checked_values(tree: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the fields of a dataclass of options, each in the type of its field; numpy's numbers become Python's.

    Args:
        tree: a dataclass made with `option`.
        values: by name; names that the dataclass lacks are left out.

    Raises:
        InputError: values of another type, not among the legal ones, or below the least legal one; all at once.
    """
    hints, problems, checked = typing.get_type_hints(tree), Problems(), {}
    for field in dataclasses.fields(tree):
        if field.name not in values:
            continue
        value = values[field.name]
        flag = "--" + field.name.replace("_", "-")
        try:
            checked[field.name] = value = _converted(value, hints[field.name])
        except TypeError:
            problems.add(f"{flag} {value!r}: expected {_described(hints[field.name])}, not {type(value).__name__}")
            continue
        problems.extend(illegal(tree, field, value))
    problems.raise_if_any()
    return checked


def broken_limits(options: "DataclassInstance") -> list[str]:
    """What `limits_broken` says of every option of a dataclass of options."""
    return [
        message
        for field in dataclasses.fields(options)
        for message in limits_broken(field, getattr(options, field.name))
    ]


def illegal(tree: type[Any], field: dataclasses.Field[Any], value: object) -> list[str]:
    """Why a value cannot be taken for an option of a dataclass.

    A dataclass with `checks_limits` reports limits itself, with its other problems, by `broken_limits`.
    """
    return not_a_choice(field, value) if getattr(tree, "checks_limits", False) else limits_broken(field, value)


def not_a_choice(field: dataclasses.Field[Any], value: object) -> list[str]:
    """Why a value is none of an option's `choices`."""
    flag = "--" + field.name.replace("_", "-")
    choices = field.metadata.get("choices")
    if choices and value is not None and value not in choices:
        near = difflib.get_close_matches(str(value), [str(choice) for choice in choices], n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        return [f"{flag} {value}: must be one of {', '.join(map(str, choices))}{meant}"]
    return []


def limits_broken(field: dataclasses.Field[Any], value: object) -> list[str]:
    """Why a value is not legal for an option: not one of its `choices`, or outside of its limits (see `option`)."""
    if wrong := not_a_choice(field, value):
        return wrong
    flag = "--" + field.name.replace("_", "-")
    if not isinstance(value, int | float):
        return []
    above, minimum, maximum = (field.metadata.get(name) for name in ("above", "minimum", "maximum"))
    if above is not None and not above < value < math.inf:
        return [f"{flag} {value}: must be above {above}"]
    if minimum is not None and maximum is not None and not minimum <= value <= maximum:
        return [f"{flag} {value}: must be between {minimum} and {maximum}"]
    if minimum is not None and not minimum <= value < math.inf:
        return [f"{flag} {value}: must be at least {minimum}"]
    return []


def whole_number(name: str, value: object, least: int = 1) -> int:
    """An argument of a Python function that counts something.

    Args:
        name: of the function and its argument, for messages.
        value: the argument.
        least: the smallest legal one.

    Raises:
        InputError: no whole number, or a smaller one.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{name} {value!r}: expected a whole number, not {type(value).__name__}")
    if value < least:
        raise InputError(f"{name} {value}: must be at least {least}")
    return int(value)


def _converted(value: Any, hint: Any) -> Any:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        for part in typing.get_args(hint):
            try:
                return _converted(value, part)
            except TypeError:
                continue
        raise TypeError
    if typing.get_origin(hint) is typing.Literal:
        legal = value in typing.get_args(hint) if isinstance(value, str) else False
    elif hint is bool:
        legal, value = isinstance(value, bool) or type(value).__name__ == "bool", bool(value)
    elif hint in (int, float):
        of = numbers.Integral if hint is int else numbers.Real
        legal = isinstance(value, of) and not isinstance(value, bool)
        value = hint(value) if legal else value
    elif hint is str:
        legal = isinstance(value, str | Path)
        value = str(value) if legal else value
    elif typing.get_origin(hint) is list:
        legal = isinstance(value, str | Sequence | Mapping)  # a mapping: class weights by label
    else:
        legal = value is None if hint is type(None) else True
    if not legal:
        raise TypeError
    return value


def _described(hint: Any) -> str:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return " or ".join(_described(part) for part in typing.get_args(hint))
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(hint)))
    names = {int: "a whole number", float: "a number", str: "text", bool: "True or False", type(None): "None"}
    return "a list" if typing.get_origin(hint) is list else names.get(hint, getattr(hint, "__name__", str(hint)))
