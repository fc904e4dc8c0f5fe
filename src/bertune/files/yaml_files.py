"""Option trees in YAML files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from bertune.errors import InputError
from bertune.files.atomic_write import write_text
from bertune.files.inputs import no_such_file

_LARGEST = 1 << 18
"""Bytes of a file of options; one is a few hundred."""


class _PlainLoader(yaml.SafeLoader):
    """Numbers, texts, lists and mappings as they are written out: no objects, no references (a few lines of them can
    spell out a tree of any size).
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """As the library does, but for references."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "references (*name) are not read", self.get_mark())
        return super().compose_node(parent, index)


class _PlainDumper(yaml.SafeDumper):
    """What `_PlainLoader` reads: a list that stands in two places is written twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002
        """Always."""
        return True


def write_yaml(path: Path, tree: Mapping[str, Any]) -> None:
    """Write an option tree, whole or not at all."""
    write_text(path, yaml.dump(dict(tree), Dumper=_PlainDumper, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path, option: str = "") -> dict[str, Any]:
    """Read an option tree; nothing in the file is executed or constructed.

    option: what named the file, for the message where it is missing.

    Raises:
        InputError: no such file, not YAML, too large, with references, or not a mapping.
    """
    try:
        if (size := path.stat().st_size) > _LARGEST:
            raise InputError(f"{path}: {size} bytes; a file of options has at most {_LARGEST}")
        tree = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError:
        raise InputError(f"{option} {path}: {no_such_file(path)}".lstrip()) from None
    except RecursionError:
        raise InputError(f"{path}: not a YAML file of options: nested too deeply") from None
    # Besides its own errors the library lets through those of int(), float() and dates.
    except (OSError, ValueError, LookupError, AttributeError, TypeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: not a YAML file: {error}") from None
    if not isinstance(tree, dict) or not all(isinstance(key, str) for key in tree):
        raise InputError(f"{path}: must hold option names and values, one a line")
    return tree
