"""Option trees in YAML files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bertune.errors import InputError


def write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    """Write an option tree, beside and renamed."""
    beside = path.with_name(path.name + ".writing")
    beside.write_text(yaml.safe_dump(dict(tree), sort_keys=False, allow_unicode=True), encoding="utf-8")
    beside.replace(path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read an option tree; nothing in the file is executed or constructed.

    Raises:
        InputError: no such file, not YAML, or not a mapping.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise InputError(f"{path}: must hold option names and values, one a line")
    return tree
